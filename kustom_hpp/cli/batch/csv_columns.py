"""CSV columns as paths into a request: `merchant_urls.success`, `options.background_images[0].url`."""

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.field_kinds import FieldKind, PixelsKind
from kustom_hpp.models.fields import ItemsKind, ModelKind, declared

KEY = "key"
"""The column of the row's key, which is not a field."""

FieldPath = tuple[str | int, ...]

_WHOLE_NUMBER = r"(-?[0-9]{1,18})(?:[.,]0+)?"
"""Spreadsheets write 1280 as 1280.0, or as 1280,0."""


@attrs.frozen
class Column:
    """One column: the path of its field, and whether its cells are whole numbers."""

    name: str
    path: FieldPath
    whole_number: bool = False

    def value(self, cell: str) -> str | int:
        """Return a cell's value. A number that is invalid stays text, so that the request's check names it."""
        number = re.fullmatch(_WHOLE_NUMBER, cell.strip()) if self.whole_number else None
        return cell if number is None else int(number[1])


def read_header(position: str, names: list[str]) -> list[Column]:
    """Return the columns of a header.

    Raises:
        CommandError: A column is unknown or appears twice; the message names all of them.

    """
    columns = [Column(name, (KEY,)) if name == KEY else _column(name) for name in names]
    wrong = [_unknown(number, names[number - 1]) for number, column in enumerate(columns, 1) if column is None]
    wrong += [f"column {name!r} appears twice" for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if wrong:
        msg = (
            f"{position}: {'; '.join(wrong)}. Nothing was sent; name a column {KEY!r} or by the path of a field, such as "
            "payment_session_url, merchant_urls.success or options.background_images[0].url."
        )
        raise CommandError(msg, Exit.USAGE)
    return [column for column in columns if column is not None]


def _column(name: str) -> Column | None:
    """Return the column of a name; None if there is no such field."""
    if not re.fullmatch(r"\w+(\[\d{1,3}\])?(\.\w+(\[\d{1,3}\])?)*", name, re.ASCII):
        return None
    path: FieldPath = tuple(int(step) if step.isdigit() else step for step in re.findall(r"\w+", name))
    kind: FieldKind | None = ModelKind(CreateSessionRequest)
    for step in path:
        if isinstance(step, int):
            kind = kind.kind if isinstance(kind, ItemsKind) else None
        else:
            fields = declared(kind.model) if isinstance(kind, ModelKind) else ()
            kind = next((field.kind for field in fields if field.name == step), None)
    # A field with fields or items of its own does not fit into a cell.
    if kind is None or isinstance(kind, (ModelKind, ItemsKind)):
        return None
    return Column(name, path, isinstance(kind, PixelsKind))


def _all_names(model: type = CreateSessionRequest, at: str = "") -> Iterator[str]:
    """Yield the name of every column; of a list, the first item."""
    for field in declared(model):
        path, kind = at + field.name, field.kind
        if isinstance(kind, ItemsKind):
            path, kind = f"{path}[0]", kind.kind
        yield from _all_names(kind.model, f"{path}.") if isinstance(kind, ModelKind) else (path,)


def _unknown(number: int, name: str) -> str:
    if not name:
        return f"column {number} has no name"
    known = [KEY, *_all_names()]
    # By the last part too: `success` means merchant_urls.success.
    [*close] = difflib.get_close_matches(name, known, n=1) or [path for path in known if path.endswith(f".{name}")][:1]
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown column {name[:80]!r}{hint}"


# A row's request


def merge(below: Any, above: Any) -> Any:
    """Return two JSON values laid over each other: objects field by field, everything else as `above` has it."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: merge(below.get(name), item) for name, item in above.items()}


def fill_template(template: Mapping[str, Any], cells: Iterable[tuple[Column, str]]) -> dict[str, Any]:
    """Return a copy of the template with a row's cells, in the order of their paths, laid over it."""
    request: dict[str, Any] = copy.deepcopy(dict(template))
    for column, cell in cells:
        node: Any = request
        *steps, last = column.path
        for step, following in zip(steps, column.path[1:], strict=True):
            node = _child(node, step, list if isinstance(following, int) else dict)
        _put(node, last, column.value(cell))
    return request


def _child(node: Any, step: Any, kind: type) -> Any:
    """Return the container at a step; create it if it is missing."""
    found = node.get(step) if isinstance(node, dict) else node[step] if step < len(node) else None
    return found if isinstance(found, kind) else _put(node, step, kind())


def _put(node: Any, step: Any, value: Any) -> Any:
    if isinstance(node, dict) or step < len(node):
        node[step] = value
    else:
        node.append(value)  # a list has no gaps: items after an empty cell move up
    return value
