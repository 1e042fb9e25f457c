"""CSV columns as paths into a request: `merchant_urls.success`, `options.background_images[0].url`."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, get_args, get_origin

import attrs

from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.models import CreateSessionRequest

KEY = "key"
"""The column that is no field: the row's key."""

FieldPath = tuple[str | int, ...]


@attrs.frozen
class Column:
    """One column: where its cells go, and whether they are whole numbers."""

    name: str
    path: FieldPath
    whole_number: bool = False

    def value(self, cell: str) -> str | int:
        """What a cell says. A number that is none stays text, for the request's own check to name it."""
        return int(cell) if self.whole_number and re.fullmatch(r"-?[0-9]{1,18}", cell) else cell


def read_header(file: str, names: list[str]) -> list[Column]:
    """The columns of a header.

    Raises:
        CommandError: a column is unknown, or given twice; all of them are named.

    """
    columns = [Column(name, (KEY,)) if name == KEY else _column(name) for name in names]
    wrong = [_unknown(name) for name, column in zip(names, columns, strict=True) if column is None]
    wrong += [f"{name!r} stands there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if wrong:
        msg = (
            f"{file}, line 1: {'; '.join(wrong)}. Nothing was sent: a column is {KEY!r} or the path of a field, such as "
            "payment_session_url, merchant_urls.success or options.background_images[0].url."
        )
        raise CommandError(msg, Exit.USAGE)
    return [column for column in columns if column is not None]


def _column(name: str) -> Column | None:
    """The column of that name; None where there is no such field."""
    if not re.fullmatch(r"\w+(\[\d{1,3}\])?(\.\w+(\[\d{1,3}\])?)*", name, re.ASCII):
        return None
    path: FieldPath = tuple(int(step) if step.isdigit() else step for step in re.findall(r"\w+", name))
    kind: Any = CreateSessionRequest
    for step in path:
        kind = _item_of(kind) if isinstance(step, int) else _fields(kind).get(step)
    # What has fields or items is no cell.
    is_cell = kind is not None and not attrs.has(kind) and _item_of(kind) is None
    return Column(name, path, kind is int) if is_cell else None


def _fields(kind: Any) -> Mapping[str, Any]:
    """The fields of a model with their types, without "or None"."""
    if not attrs.has(kind):
        return {}
    fields = attrs.fields(attrs.resolve_types(kind))
    return {field.name: _inner(field.type) for field in fields if field.name != "extra"}


def _item_of(kind: Any) -> Any:
    """The type of a list's items; None for what is no list."""
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _inner(kind: Any) -> Any:
    if get_origin(kind) is tuple or NoneType not in get_args(kind):
        return kind
    return next(argument for argument in get_args(kind) if argument is not NoneType)


def _all_names(kind: Any = CreateSessionRequest, at: str = "") -> Iterator[str]:
    """Every column there is, for lists the first."""
    for name, inner in _fields(kind).items():
        path, item = at + name, _item_of(inner)
        if item is not None:
            path, inner = f"{path}[0]", item  # noqa: PLW2901 - a list's item stands for the list
        yield from _all_names(inner, f"{path}.") if attrs.has(inner) else (path,)


def _unknown(name: str) -> str:
    known = [KEY, *_all_names()]
    # By the last part too: who writes `success` means merchant_urls.success.
    [*close] = difflib.get_close_matches(name, known, n=1) or [path for path in known if path.endswith(f".{name}")][:1]
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown column {name[:80]!r}{hint}"


# ----------------------------------------------------------------------------------------------------- a row's request


def deep_copy(value: Any) -> Any:
    """A copy of plain JSON values, which may be changed."""
    if isinstance(value, dict):
        return {name: deep_copy(item) for name, item in value.items()}
    return [deep_copy(item) for item in value] if isinstance(value, list) else value


def merge(below: Any, above: Any) -> Any:
    """Two JSON values, one laid over the other: objects field by field, everything else as the upper one has it."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: merge(below.get(name), item) for name, item in above.items()}


def fill_template(template: Mapping[str, Any], cells: Iterable[tuple[Column, str]]) -> dict[str, Any]:
    """The request of a CSV row: the template, and each cell laid over it where it belongs.

    Args:
        template: what all rows share; it is left as it is.
        cells: with their columns, in the order of the columns' paths.

    """
    request: dict[str, Any] = deep_copy(template)
    for column, cell in cells:
        node: Any = request
        *steps, last = column.path
        for step, following in zip(steps, column.path[1:], strict=True):
            node = _child(node, step, list if isinstance(following, int) else dict)
        _put(node, last, column.value(cell))
    return request


def _child(node: Any, step: Any, kind: type) -> Any:
    """What is inside, made where it is missing."""
    there = node.get(step) if isinstance(node, dict) else node[step] if step < len(node) else None
    return there if isinstance(there, kind) else _put(node, step, kind())


def _put(node: Any, step: Any, value: Any) -> Any:
    if isinstance(node, dict) or step < len(node):
        node[step] = value
    else:
        node.append(value)  # a list has no gaps: the items after an empty cell move up
    return value
