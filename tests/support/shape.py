"""The house rules as checks over a source tree.

Each check takes modules (any package, not only ours: test_shape.py plants packages that break the rules) and returns
its complaints, one sentence each; no complaint is an empty list.
"""

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50

_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_CONTAINER_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"}
_STATEFUL_CALLS = {
    "WeakSet", "WeakKeyDictionary", "WeakValueDictionary", "count", "cycle", "local",
    "Lock", "RLock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Queue", "new_event_loop", "get_event_loop",
}  # fmt: skip
_MUTATORS = {
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse",
    "add", "discard", "update", "setdefault", "appendleft",
}  # fmt: skip
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """One source file of a package."""

    name: str
    path: Path
    source: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the name below the package: `cli` for `kustom_hpp.cli.demo`; empty for the package itself."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"


def read_package(folder: Path) -> list[Module]:
    """All modules of the package in `folder`, by name."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        source = path.read_text(encoding="utf-8")
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path, source, ast.parse(source, str(path))))
    return modules


def imports(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Every name that the module imports, wherever the import stands: deferred and TYPE_CHECKING ones count.

    `from a import b` gives `a.b`, which may be a module or a name in `a`.
    """
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node) for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                base = source or ""
                if level:
                    parts = module.name.split(".")
                    above = parts[: len(parts) - level + module.is_package]
                    base = ".".join([*above, source] if source else above)
                yield from ((f"{base}.{alias.name}", node) for alias in names)
            case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(name)), *_]):
                yield name, node
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name, node


def import_cycles(modules: Collection[Module]) -> list[str]:
    """Modules that need each other. (A package is run before what stands in it; that alone is no cycle.)"""
    names = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        found = {name if name in names else name.rpartition(".")[0] for name, _ in imports(module)}
        graph[module.name] = found & names
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["import cycle: " + " <- ".join(error.args[1])]
    return []


def foreign_imports(
    modules: Collection[Module], owners: Mapping[str, Collection[str]], shared: Collection[str]
) -> list[str]:
    """Third-party libraries used outside the rooms that own them, and libraries that nobody owns."""
    package = next(iter(modules)).name.partition(".")[0]
    complaints = []
    for module in modules:
        for name, node in imports(module):
            library = name.partition(".")[0]
            if library == package or library in shared:
                continue
            if library in owners:
                if module.room not in owners[library]:
                    complaints.append(f"{module.at(node)}: {library} belongs to {', '.join(sorted(owners[library]))}")
            elif library not in sys.stdlib_module_names:
                complaints.append(f"{module.at(node)}: {library} has no owner among the rooms")
    return complaints


def environment_access(modules: Collection[Module], reader: str) -> list[str]:
    """The environment read outside `reader`, or while a module is imported."""
    complaints = []
    for module in modules:
        at_import = {id(node) for node in _run_at_import(module.tree)}
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(value=ast.Name(id="os" | "posix"), attr=name) if name in _ENVIRONMENT:
                    pass
                case ast.ImportFrom(module="os", names=names) if any(alias.name in _ENVIRONMENT for alias in names):
                    complaints.append(f"{module.at(node)}: os.environ under another name")
                    continue
                case ast.Import(names=names) if any(alias.name == "os" and alias.asname for alias in names):
                    complaints.append(f"{module.at(node)}: os under another name")
                    continue
                case _:
                    continue
            if module.room != reader:
                complaints.append(f"{module.at(node)}: only {reader} reads the environment")
            elif id(node) in at_import:
                complaints.append(f"{module.at(node)}: the environment is read at import")
    return complaints


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, _FUNCTIONS):
            for part in (*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield part
                yield from _run_at_import(part)
        elif not isinstance(child, ast.Lambda):
            yield from _run_at_import(child)


def shared_state(modules: Collection[Module]) -> list[str]:
    """State that outlives a call: mutable module globals, `global`, ContextVar.

    A container in CAPITALS counts as a constant as long as nobody changes it.
    """
    complaints = []
    for module in modules:
        for name, _ in imports(module):
            if name.partition(".")[0] == "contextvars":
                complaints.append(f"{module.name}: imports {name}")
        for statement in _module_statements(module.tree.body):
            complaints += _mutable_global(module, statement)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Global):
                complaints.append(f"{module.at(node)}: global {', '.join(node.names)}")
            elif (changed := _changed(node)) and _is_constant(changed):
                complaints.append(f"{module.at(node)}: {changed} is changed")
    return complaints


def _module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for field in ("body", "orelse", "finalbody"):
                yield from _module_statements(getattr(statement, field, []))
        else:
            yield statement


def _mutable_global(module: Module, statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Assign(targets=targets, value=value):
            pass
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            targets = [target]
        case _:
            return
    called = _last_name(value.func) if isinstance(value, ast.Call) else ""
    for target in targets:
        name = _last_name(target)
        if called in _STATEFUL_CALLS:
            yield f"{module.at(statement)}: {name} is made at import and has state"
        elif (isinstance(value, _DISPLAYS) or called in _CONTAINER_CALLS) and not _is_constant(name):
            yield f"{module.at(statement)}: {name} is a mutable global"


def _changed(node: ast.AST) -> str:
    """The name of what a node changes in place, if it does."""
    match node:
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
            return _last_name(value)
        case ast.AugAssign(target=target):
            return _last_name(target)
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _MUTATORS:
            return _last_name(value)
    return ""


def _is_constant(name: str) -> bool:
    return name == "__all__" or (name.isupper() and not name.startswith("__"))


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _last_name(value)
    return ""


def undocumented(modules: Collection[Module]) -> list[str]:
    """Modules and public classes, functions and methods without a docstring."""
    complaints = []
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            complaints.append(f"{module.name}: the module has no docstring")
        complaints += _undocumented_in(module, module.tree.body, module.name)
    return complaints


def _undocumented_in(module: Module, body: list[ast.stmt], owner: str) -> Iterator[str]:
    for node in _module_statements(body):
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
            continue
        # An overload and a property's setter are documented where they are first told of.
        if {_last_name(decorator) for decorator in node.decorator_list} & {"overload", "setter", "deleter"}:
            continue
        if ast.get_docstring(node) is None:
            yield f"{module.at(node)}: {owner}.{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented_in(module, node.body, f"{owner}.{node.name}")


def unraised(modules: Collection[Module], room: str = "errors") -> list[str]:
    """Error classes that nothing in the package raises. Raising a child is enough for its parents."""
    parents = {
        node.name: {_last_name(base) for base in node.bases}
        for module in modules
        if module.room == room
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }
    reached: set[str] = set()
    waiting = {name for module in modules for node in ast.walk(module.tree) for name in _made(node)}
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting |= parents.get(name, set())
    return [f"{name} is never raised" for name in sorted(parents.keys() - reached) if not name.startswith("_")]


def _made(node: ast.AST) -> set[str]:
    """Names of classes that a node calls, raises, returns or keeps in a table: not those that it only asks for."""
    match node:
        case ast.Call(func=func, args=args, keywords=keywords):
            asked = _last_name(func) in {"isinstance", "issubclass"}
            used = [func] if asked else [func, *args, *(keyword.value for keyword in keywords)]
        case ast.Raise(exc=ast.expr() as exc):
            used = [exc]
        case ast.Return(value=ast.expr() as value):
            used = [value]
        case ast.IfExp(body=body, orelse=orelse):
            used = [body, orelse]
        case ast.Dict(values=values):
            used = values
        case _:
            return set()
    return {name for name in map(_last_name, used) if name}


def too_long(modules: Collection[Module], allowed: Mapping[str, str]) -> list[str]:
    """Files and functions that ask to be split, without those in `allowed`; and entries of `allowed` out of use.

    A function's docstring does not count: documenting it well is no reason to split it.
    """
    long: dict[str, str] = {}
    for module in modules:
        lines = module.source.count("\n")
        if lines > MAX_FILE_LINES:
            long[module.name] = f"{lines} lines, more than {MAX_FILE_LINES}"
        for name, node in _functions(module.tree, module.name):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if lines > MAX_FUNCTION_LINES:
                long[name] = f"{lines} lines, more than {MAX_FUNCTION_LINES}"
    complaints = [f"{name}: {size}" for name, size in long.items() if name not in allowed]
    return complaints + [f"{name}: is not too long, strike it from the list" for name in allowed if name not in long]


def _functions(node: ast.AST, owner: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            name = f"{owner}.{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, child
            yield from _functions(child, name)
        else:
            yield from _functions(child, owner)


_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def defined_names(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Every name that a module defines: classes, functions, arguments, variables, attributes and aliases."""
    for node in ast.walk(module.tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name, node
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name, node


def retired_words(
    modules: Collection[Module], retired: Mapping[str, str], allowed: Mapping[str, Collection[str]]
) -> list[str]:
    """Defined names, of modules too, with a word of `retired` in them; and names in `allowed` that are not in use."""
    due, used = [], set()
    for module in modules:
        own = [(part, module.tree) for part in module.name.split(".")[1:]]
        for name, node in (*own, *defined_names(module)):
            for word in sorted({part.lower() for part in _PARTS.findall(name)} & retired.keys()):
                if name in allowed:
                    used.add(name)
                else:
                    due.append(f"{module.at(node)}: {name}: {word} is retired, use {retired[word]}")
    return due + [f"{name} is not in use, remove it from the list" for name in allowed if name not in used]


def doubled_classes(modules: Collection[Module], taken: Collection[str], allowed: Mapping[str, str]) -> list[str]:
    """Class names that mean two things: defined twice in the package, or by a library that everybody knows."""
    homes: dict[str, list[str]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module.at(node))
    due = [f"{name} is defined in {', '.join(at)}" for name, at in homes.items() if len(at) > 1 and name not in allowed]
    return due + [f"{at[0]}: {name} has another meaning already" for name, at in homes.items() if name in taken]


def entries(folder: Path) -> set[str]:
    """Return the files and folders of a package's root, as git would list them."""
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


# What can only be seen in an interpreter of its own.


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the packages in `folder` first; a warning is an error.

    Coverage stays out: its own imports (sqlite3 among them) would hide ours.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_CORE_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip


_IMPORT_EACH = """
import importlib, os, sys, tempfile, traceback

def load(name):
    try:
        importlib.import_module(name)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for library in {libraries!r}:
    importlib.import_module(library)
for name in {names!r}:
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            code = load(name)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        printed.seek(0)
        text = printed.read().decode(errors="replace").strip()
        if status or text:
            print(repr(f"{{name}}: {{text}}"), flush=True)  # before the next fork, which would print it too
"""


def not_importable(names: Collection[str], folder: Path, libraries: Collection[str] = ()) -> list[str]:
    """Return a complaint for each module that cannot be imported as the first one of its package.

    Each import happens in a fork of one interpreter that has loaded the third-party libraries, which take most of the time.
    """
    done = run_python(_IMPORT_EACH.format(libraries=list(libraries), names=list(names)), folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


def loaded_by(statement: str, folder: Path) -> set[str]:
    """The top-level names that a statement adds to sys.modules."""
    names = "{name.partition('.')[0] for name in set(sys.modules) - before}"
    done = run_python(f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*{names})", folder)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def broken_contracts(folder: Path) -> list[str]:
    """Complains where an import-linter contract of the pyproject.toml in `folder` is broken."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    return [done.stdout + done.stderr] if done.returncode else []
