"""Does a consumer's file pass mypy --strict and pyright, and do its lines that must fail do fail?

    python tests/typing/check.py

Both checkers run in a temporary folder, on copies, so that no setting of this repository reaches them: as at a user's.
First the judge is judged: files with a known defect must be found wanting.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MARK = re.compile(r"# E: ([a-z-]+)$")

Findings = dict[int, set[str]]
"""Line number to the codes of its errors."""


def package_folder() -> Path:
    """Where the package lies that an import would find, or the one that this file lies beside."""
    if importlib.util.find_spec("kustom_hpp") is None:
        sys.path.insert(0, str(HERE.parent.parent))
    spec = importlib.util.find_spec("kustom_hpp")
    if spec is None or spec.origin is None:
        sys.exit("kustom_hpp can be imported from nowhere: install it, or run this from the repository")
    return Path(spec.origin).parent.parent


def is_installed(folder: Path) -> bool:
    """Whether type checkers find it by themselves, through the interpreter."""
    return folder.name == "site-packages"


def mypy(file: Path, package: Path) -> Findings:
    """What mypy --strict says about a file."""
    (file.parent / "mypy.ini").write_text("[mypy]\n")
    environment = os.environ if is_installed(package) else {**os.environ, "MYPYPATH": str(package)}
    command = [
        sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-color-output", "--hide-error-context",
        "--no-incremental", "--config-file", "mypy.ini", "--follow-imports", "silent", file.name,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or done.stderr:
        sys.exit(f"mypy did not run: {done.stdout}{done.stderr}")
    found: Findings = {}
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"([^:]+):(\d+): error: .*?(?:  \[([a-z-]+)\])?", line):
            if match[1] != file.name:
                sys.exit(f"mypy complains of another file: {line}")
            found.setdefault(int(match[2]), set()).add(match[3] or "")
    if done.returncode == 1 and not found:
        sys.exit(f"mypy failed in words that are not understood: {done.stdout}")
    return found


def pyright(file: Path, package: Path) -> Findings:
    """What pyright says about a file, in its standard mode."""
    settings = {"pythonPlatform": "Linux", "include": [file.name]}
    if not is_installed(package):
        settings["extraPaths"] = [str(package)]
    (file.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"pyright did not run: {done.stdout}{done.stderr}")
    if told["summary"]["filesAnalyzed"] != 1:
        sys.exit(f"pyright looked at {told['summary']['filesAnalyzed']} files instead of one")
    found: Findings = {}
    for finding in told["generalDiagnostics"]:
        if finding["severity"] == "error":
            found.setdefault(finding["range"]["start"]["line"] + 1, set()).add(finding.get("rule", ""))
    return found


def judge(source: str, package: Path) -> list[str]:
    """Every line that should be an error and is none, or the other way round."""
    marked = {
        number: match[1]
        for number, line in enumerate(source.splitlines(), 1)
        if (match := MARK.search(line)) is not None
    }
    complaints = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "consumer.py"
        file.write_text(source)
        for name, check in (("mypy", mypy), ("pyright", pyright)):
            found = check(file, package)
            complaints += [f"line {number}: {name} finds nothing wrong" for number in marked.keys() - found.keys()]
            for number, codes in sorted(found.items()):
                expected = marked.get(number)
                if expected is None:
                    complaints.append(f"line {number}: {name} says {', '.join(sorted(codes))}")
                elif name == "mypy" and expected not in {"any", *codes}:
                    complaints.append(f"line {number}: mypy says {', '.join(sorted(codes))} instead of {expected}")
    return complaints


DEFECTS = {
    "a line that should fail and does not": ("import kustom_hpp as hpp\nhpp.Timeouts(read=1)  # E: any\n", 2),
    "a line that fails and should not": ("import kustom_hpp as hpp\nhpp.Timeouts(read='1')\n", 2),
    "a package without types": ("import json\nimport kustom_hpp.no_such_room\n", 2),
}
"""What a judge must find, and how many complaints it makes: one of each checker."""
CODE_DEFECT = "import kustom_hpp as hpp\nhpp.Timeouts(read='1')  # E: call-arg\n"


def main() -> int:
    """Zero where all is as marked."""
    package = package_folder()
    for name, (source, expected) in DEFECTS.items():
        if len(found := judge(source, package)) != expected:
            print(f"the judge is blind: {name}: {found}")
            return 1
    if judge(CODE_DEFECT, package) != ["line 2: mypy says arg-type instead of call-arg"]:
        print("the judge is blind: an error of another code")
        return 1
    source = (HERE / "consumer.py").read_text()
    complaints = judge(source, package)
    for complaint in complaints:
        print(f"consumer.py, {complaint}")
    lines = sum(MARK.search(line) is not None for line in source.splitlines())
    if not lines:
        print("consumer.py has no line that must fail")
        return 1
    print(f"{'NOT ' if complaints else ''}as marked: {lines} lines fail, all others pass, in mypy --strict and pyright")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
