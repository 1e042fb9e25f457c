"""Templates and static files: read once from the package, kept in memory, written with every text escaped."""

from collections.abc import Mapping
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from jinja2 import Environment

MISSING = "This page needs jinja2: pip install 'kustom_hpp[sandbox]'"
_HERE = "kustom_hpp.sandbox.pages"
STATIC_PATH = "/_sandbox/static/"
_TYPES = MappingProxyType({".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"})


class NoTemplatesError(Exception):
    """jinja2 is not installed."""


@frozen
class StaticFile:
    """A file for the browser."""

    content_type: str
    data: bytes


class Renderer:
    """The pages as bytes. Making it reads every file, so that nothing is read while somebody waits.

    Raises:
        NoTemplatesError: jinja2 is not installed.

    """

    def __init__(self) -> None:
        try:
            import jinja2
        except ImportError:
            raise NoTemplatesError(MISSING) from None
        folder = resources.files(_HERE) / "templates"
        sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir()}
        self._environment: Environment = jinja2.Environment(
            loader=jinja2.DictLoader(sources),
            autoescape=True,  # always, whatever a template is called
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["static"] = partial(str.__add__, STATIC_PATH)
        for name in sources:
            self._environment.get_template(name)

    def page(self, template: str, **values: Any) -> bytes:
        """One page, or a piece of one."""
        text = self._environment.get_template(template).render(values)
        # Half a surrogate pair in somebody's text is no reason to have no page.
        return text.encode("utf-8", "replace")


def static_files() -> Mapping[str, StaticFile]:
    """Every static file by its name. What is not in here cannot be had, however its path is spelled."""
    found = {}
    for entry in (resources.files(_HERE) / "static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[entry.name] = StaticFile(f"{_TYPES[suffix]}; charset=utf-8", entry.read_bytes())
    return found
