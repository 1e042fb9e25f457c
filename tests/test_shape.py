"""The package keeps the rules of its house; and each check is shown a package that breaks its rule."""

import importlib
import importlib.metadata
import pathlib
import sys
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import kustom_hpp
from tests.support import shape

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PACKAGE = Path(kustom_hpp.__file__).parent
MODULES = shape.read_package(PACKAGE)

OWNERS = {
    "aiohttp": {"transport", "sandbox", "integrations"},
    "multidict": {"transport", "sandbox"},
    "tenacity": {"retry"},
    "cattrs": {"models"},
    "orjson": {"_protocol"},
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "sqlite3": {"batch"},
    "psycopg": {"batch"},
    "procrastinate": {"integrations"},
    "jinja2": {"cli", "sandbox"},
    "segno": {"sandbox"},
    "anyio": {"sandbox"},
    "pytest": {"testing"},
    "starlette": {"integrations"},
    "taskiq": {"integrations"},
    "opentelemetry": {"integrations"},
}
"""Which rooms may import a library."""

VOCABULARY = {"attrs", "yarl"}
"""Libraries that any room may speak."""

LONG: dict[str, str] = {
    "kustom_hpp.client": "the reference of every setting and every method, most of it docstrings",
    "kustom_hpp.client.HPPClient.__init__": "its signature and its call are a line for each setting, and nothing else",
}
"""Files and functions that may be longer than the rule says, each with its reason."""


MAX_ENTRIES = 22
"""Files and folders at the package's root, besides the three that tools read."""

RETIRED = {
    "response": "answer answers answered answering",
    "attempt, or acquire for the rate limit": "turn turns",
    "environment, base URL or endpoint": "place places world where here nowhere",
    "valid": "good fit",
    "invalid": "misfit",
    "recorded, stored or persisted": "kept",
    "reported, returned, logged or raised": "tell tells telling told untold",
    "recorded or observed": "hear hears heard",
    "in_flight": "fly flies flying",
    "remedy or next step": "way",
    "trigger or exhausted": "bite bites bitten spent",
    "half_open or generation": "careful wave waves",
    "configured, or the option's name": "given asked",
    "unused or unknown": "nobody",
    "borrowed": "lend lent",
    "failure": "trouble troubles",
    "a noun of the field": "deed deeds guest guests tally stray judge blind proven around furnish tidy life",
}
"""Words that names do not use, by what they use in their place."""

RETIRED_WORDS = {word: instead for instead, words in RETIRED.items() for word in words.split()}

ALLOWED_NAMES: dict[str, str] = {
    **dict.fromkeys(("PLACE_ORDER", "PlaceOrderMode", "place_order_mode", "places_order"), "the API's own word"),
    "given_name": "the API's own word",
}
"""Names with a retired word in them, each with its reason."""

MEANT_OTHERWISE = {
    *typing.__all__, *pathlib.__all__,
    *("Call", "Done", "Kept", "Parts", "Rules", "Seen", "Target", "Told"),
}  # fmt: skip
"""What no class is called: names that everybody knows from the standard library, and names that say nothing."""

DOUBLED_CLASSES: dict[str, str] = {}
"""Class names that the package defines twice, each with its reason."""


def plant(folder: Path, files: Mapping[str, str]) -> list[shape.Module]:
    """Write a package named `house` and read it."""
    for name, source in {"__init__.py": '"""A house."""\n', **files}.items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return shape.read_package(folder / "house")


# The rooms.


def test_imports_go_down_only() -> None:
    assert shape.broken_contracts(ROOT) == []


@pytest.mark.parametrize(
    ("room", "statement"),
    [
        ("errors", "import kustom_hpp.client"),
        ("_messages", "def later():\n    import kustom_hpp.models"),
        ("models", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kustom_hpp import config"),
        ("retry", "from kustom_hpp import pace"),
        ("unplaced", ""),
    ],
    ids=["up", "up, deferred", "up, for types", "a stranger", "a room without a place"],
)
def test_an_import_that_goes_up_is_seen(tmp_path: Path, room: str, statement: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    [contract] = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    rooms = [room for layer in contract["layers"] for room in layer.split(" | ") if not room.startswith("(")]
    package = tmp_path / "kustom_hpp"
    package.mkdir()
    for name in ("__init__", *rooms):
        (package / f"{name}.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(pyproject)
    assert shape.broken_contracts(tmp_path) == []

    (package / f"{room}.py").write_text(f"{statement}\n")
    [complaint] = shape.broken_contracts(tmp_path)
    assert "1 broken" in complaint


def test_no_import_cycles() -> None:
    assert shape.import_cycles(MODULES) == []


def test_the_readme_shows_the_layers() -> None:
    assert readme_layers(README) == contract_layers(ROOT / "pyproject.toml")


def contract_layers(pyproject: Path) -> list[str]:
    [contract] = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    # In parentheses: a room that is still to come.
    layers = [[room for room in layer.split(" | ") if room[0] != "("] for layer in contract["layers"]]
    return [" | ".join(layer) for layer in layers if layer]


def readme_layers(readme: Path) -> list[str]:
    """The first column of the first block below the heading."""
    _, heading, text = readme.read_text().partition("\n## How it is built\n")
    assert heading, "README.md: no section 'How it is built'"
    return [line.split("  ")[0].strip() for line in text.split("```")[1].strip().splitlines()]


def test_layers_that_the_readme_does_not_show_are_seen(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# X\n```\nno\n```\n## How it is built\nSo:\n\n```\na       alpha, beta\nb | c   gamma\nd\n```\n")
    assert readme_layers(readme) == ["a", "b | c", "d"]


def test_the_root_has_few_entries() -> None:
    entries = shape.entries(PACKAGE) - {"py.typed", "_version.py", "__main__.py"}
    assert len(entries) <= MAX_ENTRIES, sorted(entries)


def test_each_library_has_one_owner() -> None:
    assert shape.foreign_imports(MODULES, OWNERS, VOCABULARY) == []


def test_only_config_reads_the_environment_and_not_at_import() -> None:
    assert shape.environment_access(MODULES, "config") == []


def test_nothing_is_remembered_between_calls() -> None:
    assert shape.shared_state(MODULES) == []


def test_everything_public_is_documented() -> None:
    assert shape.undocumented(MODULES) == []


def test_every_error_is_raised() -> None:
    assert shape.unraised(MODULES) == []


def test_files_and_functions_are_short() -> None:
    assert shape.too_long(MODULES, LONG) == []


def test_names_have_no_retired_word() -> None:
    assert shape.retired_words(MODULES, RETIRED_WORDS, ALLOWED_NAMES) == []


def test_a_class_name_has_one_meaning() -> None:
    assert shape.doubled_classes(MODULES, MEANT_OTHERWISE, DOUBLED_CLASSES) == []


Check = Callable[[list[shape.Module]], list[str]]


def owned(modules: list[shape.Module]) -> list[str]:
    return shape.foreign_imports(modules, {"aiohttp": {"transport"}, "sqlite3": {"batch", "cli"}}, {"attrs"})


def reads_environment(modules: list[shape.Module]) -> list[str]:
    return shape.environment_access(modules, "config")


def is_long(modules: list[shape.Module]) -> list[str]:
    return shape.too_long(modules, {})


def words(modules: list[shape.Module]) -> list[str]:
    return shape.retired_words(modules, {"told": "reported", "kept": "stored"}, {"told_by": "a reason"})


def doubled(modules: list[shape.Module]) -> list[str]:
    return shape.doubled_classes(modules, {"Path"}, {"Meta": "a reason"})


PLANTED: list[tuple[Check, dict[str, str], list[str]]] = [
    # check, files, one fragment for each complaint that is due: none means that the package is in order
    (shape.import_cycles, {"a.py": "import house.b", "b.py": "from house import c", "c.py": ""}, []),
    (shape.import_cycles, {"a.py": "import house.b", "b.py": "from house.a import name"}, ["house.a"]),
    (shape.import_cycles, {"a.py": "from . import b", "b.py": "def later():\n from .a import name"}, ["house.a"]),
    (shape.import_cycles, {"a.py": "from .b import x", "b.py": "if TYPE_CHECKING:\n import house.a"}, ["house.a"]),
    (shape.import_cycles, {"__init__.py": "from house.a import b", "a.py": "from house import __version__"}, ["house"]),
    (shape.import_cycles, {"s/__init__.py": "from .t import x", "s/t.py": "from . import y"}, ["house.s"]),
    (shape.import_cycles, {"a.py": "import_module('house.b')", "b.py": "import house.a"}, ["house.a"]),
    (owned, {"transport.py": "import aiohttp.web\nimport attrs\nimport json\nimport house.cli"}, []),
    (owned, {"client.py": "from aiohttp import web"}, ["house.client:1: aiohttp belongs to transport"]),
    (owned, {"client.py": "def f():\n import sqlite3"}, ["house.client:2: sqlite3 belongs to batch"]),
    (owned, {"client.py": "importlib.import_module('aiohttp')"}, ["house.client:1: aiohttp"]),
    (owned, {"transport.py": "import requests"}, ["requests has no owner"]),
    (reads_environment, {"config.py": "import os\ndef read():\n return os.environ['A']"}, []),
    (reads_environment, {"config.py": "import os\nKEY = os.environ['A']"}, ["read at import"]),
    (reads_environment, {"config.py": "import os\ndef read(key=os.getenv('A')): ..."}, ["read at import"]),
    (reads_environment, {"client.py": "import os\ndef read():\n return os.getenv('A')"}, ["only config"]),
    (reads_environment, {"cli/demo.py": "from os import environ"}, ["under another name"]),
    (reads_environment, {"cli/demo.py": "import os as system"}, ["under another name"]),
    (shape.shared_state, {"a.py": "TABLE = {1: 2}\n__all__ = ['x']\nlog = getLogger()\ndef f():\n seen = []"}, []),
    (shape.shared_state, {"a.py": "seen: list[int] = []"}, ["seen is a mutable global"]),
    (shape.shared_state, {"a.py": "if True:\n cache = dict()"}, ["cache is a mutable global"]),
    (shape.shared_state, {"a.py": "_GATE = asyncio.Lock()"}, ["_GATE is made at import"]),
    (shape.shared_state, {"a.py": "TABLE = {}\ndef f():\n TABLE[1] = 2"}, ["house.a:3: TABLE is changed"]),
    (shape.shared_state, {"a.py": "TABLE = set()\ndef f():\n TABLE.add(2)"}, ["house.a:3: TABLE is changed"]),
    (shape.shared_state, {"a.py": "from house import b\ndef f():\n del b.TABLE[1]"}, ["house.a:3: TABLE is changed"]),
    (shape.shared_state, {"a.py": "N = 0\ndef f():\n global N"}, ["global N"]),
    (shape.shared_state, {"a.py": "from contextvars import ContextVar"}, ["contextvars"]),
    (shape.undocumented, {"a.py": '"""A."""\ndef _f(): ...\nclass _C:\n def g(self): ...'}, []),
    (shape.undocumented, {"a.py": ""}, ["house.a: the module"]),
    (shape.undocumented, {"a.py": '"""A."""\nif True:\n def f(): ...'}, ["house.a.f has no docstring"]),
    (shape.undocumented, {"a.py": '"""A."""\nclass C:\n """C."""\n async def g(self): ...'}, ["house.a.C.g"]),
    (shape.undocumented, {"a.py": '"""A."""\nclass C: ...'}, ["house.a.C has"]),
    (shape.unraised, {"errors.py": "class A(Exception): ...\nclass B(A): ...", "a.py": "raise B('no')"}, []),
    (shape.unraised, {"errors.py": "class A(Exception): ...\nTABLE = {400: A}"}, []),
    (shape.unraised, {"errors.py": "class A(Exception): ...", "a.py": "isinstance(e, A)"}, ["A is never raised"]),
    (
        shape.unraised,
        {"errors.py": "class A(Exception): ...\nclass B(A): ...", "a.py": "try: raise A\nexcept B: ..."},
        ["B is never raised"],
    ),
    (is_long, {"a.py": "\n" * 350, "b.py": 'def f():\n """D.\n\n D."""\n' + " x\n" * 49}, []),
    (
        words,
        {"a.py": "def told_by(untold): x.y = a.told = kept()\nfor toldness in b: ..."},
        ["house.a:1: told: told is"],
    ),
    (
        words,
        {"a.py": "told_by = 1\ndef f(*, it_told): ...\nclass WasKept: ..."},
        ["WasKept: kept is retired, use stored", "it_told: told is retired, use reported"],
    ),
    (words, {"a.py": "told_by = 1\nimport a as told\ntry: ...\nexcept E as kept: ..."}, ["a:2: told", "a:4: kept"]),
    (words, {"a.py": "told_by = 1\nmatch x:\n case [told, *kept]: ..."}, ["told", "kept"]),
    (words, {"told.py": "told_by = 1"}, ["house.told:1: told"]),
    (words, {"a.py": ""}, ["told_by is not in use"]),
    (doubled, {"a.py": "class A:\n class Meta: ...\nclass B:\n class Meta: ..."}, []),
    (doubled, {"a.py": "class A: ...", "b.py": "def f():\n class A: ..."}, ["A is defined in house.a:1, house.b:2"]),
    (doubled, {"a.py": "class Path: ..."}, ["house.a:1: Path has another meaning"]),
    (is_long, {"a.py": "\n" * 351}, ["house.a: 351 lines"]),
    (is_long, {"a.py": "class C:\n def f():\n  def g():\n" + "   x\n" * 50}, ["house.a.C.f: 52", "house.a.C.f.g: 51"]),
]


@pytest.mark.parametrize(("check", "files", "due"), PLANTED)
def test_each_check_sees_what_it_is_for(tmp_path: Path, check: Check, files: dict[str, str], due: list[str]) -> None:
    complaints = check(plant(tmp_path, files))
    assert len(complaints) == len(due), complaints
    for complaint, fragment in zip(complaints, due, strict=True):
        assert fragment in complaint


def test_an_entry_of_the_list_of_long_files_that_is_out_of_use_is_seen(tmp_path: Path) -> None:
    modules = plant(tmp_path, {"a.py": "\n" * 351})
    assert shape.too_long(modules, {"house.a": "a table"}) == []
    assert shape.too_long(modules, {"house.a": "a table", "house.b": "was one"}) == [
        "house.b: is not too long, strike it from the list"
    ]


# What is public.


def test_all_is_what_the_modules_say() -> None:
    modules = ("_messages", "client", "config.options", "errors", "events", "pace", "sync", "transport.base",
               "transport.connector", "transport.fake", "transport.session_manager",
               "models.distributions", "models.requests", "models.responses", "models.urls")  # fmt: skip
    said = [name for module in modules for name in importlib.import_module(f"kustom_hpp.{module}").__all__]
    assert kustom_hpp.__all__ == sorted(said)


@pytest.mark.parametrize("name", kustom_hpp.__all__)
def test_a_public_name_can_be_had_and_is_documented(name: str) -> None:
    public = getattr(kustom_hpp, name)
    if isinstance(public, type):
        assert public.__dict__.get("__doc__"), f"{name} has no docstring of its own"
    elif callable(public):
        assert public.__doc__, f"{name} has no docstring"


def test_every_error_is_public() -> None:
    errors = sys.modules["kustom_hpp.errors"]
    classes = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert classes - set(kustom_hpp.__all__) == set()


# Imports, each in an interpreter of its own.


def test_each_module_can_be_imported() -> None:
    # One after the other in one interpreter: without cycles among them the order does not matter.
    done = shape.run_python("\n".join(f"import {module.name}" for module in MODULES), PACKAGE.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_each_module_can_be_imported_alone() -> None:
    names = [module.name for module in MODULES]
    assert shape.not_importable(names, PACKAGE.parent, ("aiohttp.web", "cyclopts", "rich", "jinja2", "pytest")) == []


@pytest.mark.parametrize("source", ["import house.nothing", "import warnings; warnings.warn('old')", "print('hello')"])
def test_an_import_that_fails_warns_or_talks_is_seen(tmp_path: Path, source: str) -> None:
    plant(tmp_path, {"a.py": source, "b.py": ""})
    [complaint] = shape.not_importable(["house.b", "house.a", "house"], tmp_path)
    assert complaint.startswith("house.a:")


def strangers(statement: str, folder: Path, *, beside: str = "aiohttp, attr, attrs, cattrs, yarl") -> set[str]:
    """What a statement loads beyond the standard library and these libraries."""
    loaded = shape.loaded_by(statement, folder)
    expected = shape.loaded_by(f"import {beside}", folder)
    # sqlite3 is of the standard library, and still nothing that a web app should load to create a session.
    foreign = {name for name in loaded - expected if name not in sys.stdlib_module_names or name == "sqlite3"}
    return foreign - {PACKAGE.name, "house"}


def test_the_package_loads_only_what_it_says() -> None:
    assert strangers("from kustom_hpp import *", PACKAGE.parent) == set()


@pytest.mark.parametrize("name", ["kustom_hpp", "kustom_hpp.testing.plugin"])
def test_nothing_is_loaded_before_a_name_is_taken(name: str) -> None:
    # pytest loads both in every run, that of an unrelated project too.
    statement = f"import {name}\nassert not [m for m in sys.modules if m.startswith(('kustom_hpp.client', 'asyncio.'))]"
    assert strangers(statement, PACKAGE.parent, beside="pytest") == set()


def test_names_are_handed_out_in_every_way() -> None:
    code = """
import kustom_hpp, pickle, sys
assert kustom_hpp._messages.Delivery and "kustom_hpp._exports" not in sys.modules
assert {"HPPClient", "__version__"} <= set(dir(kustom_hpp))
assert kustom_hpp.Timeouts is kustom_hpp.Timeouts
from kustom_hpp import batch, HPPClient
assert HPPClient is kustom_hpp.HPPClient is vars(kustom_hpp)["HPPClient"]
assert pickle.loads(pickle.dumps(kustom_hpp.HPPError)) is kustom_hpp.HPPError
for name in ("nothing", "__wrapped__", "_private"):
    try:
        getattr(kustom_hpp, name)
    except AttributeError as error:
        assert str(error) == f"module 'kustom_hpp' has no attribute {name!r}" and error.__cause__ is None
    else:
        raise AssertionError(name)
try:
    from kustom_hpp import nothing
except ImportError as error:
    assert "cannot import name 'nothing' from 'kustom_hpp'" in str(error)
"""
    done = shape.run_python(code, PACKAGE.parent)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_debugger_is_offered_all_names() -> None:
    assert set(kustom_hpp.__all__) <= set(dir(kustom_hpp))


def test_two_threads_may_take_the_first_name_at_once() -> None:
    code = """
import threading, kustom_hpp
start, got = threading.Barrier(8), []
def take():
    start.wait()
    got.append(kustom_hpp.HPPClient)
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(got) == 8 and len(set(got)) == 1, got
"""
    done = shape.run_python(code, PACKAGE.parent)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("library", ["tenacity", "rich", "cyclopts", "sqlite3"])
def test_a_library_that_is_loaded_too_early_is_seen(tmp_path: Path, library: str) -> None:
    plant(tmp_path, {"__init__.py": f"import {library}"})
    assert library in strangers("from house import *", tmp_path)


def converters(package: str, folder: Path) -> int:
    """How many cattrs converters importing a package builds, beyond the one that cattrs itself builds."""
    count = "sum(isinstance(thing, cattrs.BaseConverter) for thing in gc.get_objects())"
    done = shape.run_python(f"import cattrs, gc\nown = {count}\nfrom {package} import *\nprint({count} - own)", folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_no_converter_is_built_at_import(tmp_path: Path) -> None:
    assert converters("kustom_hpp", PACKAGE.parent) == 0
    plant(tmp_path, {"__init__.py": "import cattrs\nEAGER = cattrs.Converter()"})
    assert converters("house", tmp_path) == 1


# The package as it is shipped.


def test_the_core_needs_five_libraries_with_floors_and_no_caps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.partition(">=")[0] for requirement in project["dependencies"]}
    assert names == {"aiohttp", "attrs", "cattrs", "tenacity", "yarl"}
    # In words: every requirement has a floor (">="), and none has anything behind it ("<", "!=", ",").
    every = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    assert [
        r for r in every if not r.startswith("kustom_hpp[") and not r.partition(">=")[2].replace(".", "").isdigit()
    ] == []


def test_the_version_is_told_once() -> None:
    assert importlib.metadata.version("kustom_hpp") == kustom_hpp.__version__


def test_types_and_licence_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert importlib.metadata.metadata("kustom_hpp")["License-Expression"] == "MIT"
