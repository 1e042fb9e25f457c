"""Templates and static files, read once from the package. Every text is escaped."""

from collections.abc import Mapping
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = "kustom_hpp.sandbox.pages"
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
    """The pages as bytes. The constructor reads every file, so that no request waits for the disk.

    Raises:
        NoTemplatesError: jinja2 is not installed.

    """

    def __init__(self) -> None:
        try:
            import jinja2
        except ImportError:
            raise NoTemplatesError("This page needs jinja2: pip install 'kustom_hpp[sandbox]'") from None
        folder = resources.files(_PACKAGE) / "templates"
        sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir()}
        self._environment: Environment = jinja2.Environment(
            loader=jinja2.DictLoader(sources),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["static"] = partial(str.__add__, STATIC_PATH)
        for name in sources:
            self._environment.get_template(name)

    def page(self, template: str, **values: Any) -> bytes:
        """Return a page, or a part of one."""
        text = self._environment.get_template(template).render(values)
        # A lone surrogate in a text must not break the page.
        return text.encode("utf-8", "replace")


def static_files() -> Mapping[str, StaticFile]:
    """Return the static files by name. A path that is not a key here does not exist."""
    files = {}
    for entry in (resources.files(_PACKAGE) / "static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            files[entry.name] = StaticFile(f"{_TYPES[suffix]}; charset=utf-8", entry.read_bytes())
    return files
