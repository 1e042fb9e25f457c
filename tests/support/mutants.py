"""What mutation testing changes: every small change to a module that a test ought to notice."""

import ast
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[Any, ...]
Change = Callable[[Any], Any]
"""From a node to the one in its place; None takes an element out of its list."""

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.LShift: ast.RShift,
}  # fmt: skip
_SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "format_spec"}
"""They say what is so, or how it looks, and decide nothing."""
_SKIPPED_NODES = (ast.Import, ast.ImportFrom, ast.Assert)
_REMOVABLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Raise, ast.Return, ast.Delete)


def changes(tree: ast.Module, only: str | None) -> Iterator[tuple[Path, int, str, Change]]:
    """Every change: where it is (a path of fields and indexes), its line, its name, and how it is made."""
    for path, node, scope in _nodes(tree):
        statement = tree.body[path[1]]
        if only is not None and only not in [getattr(target, "id", "") for target in getattr(statement, "targets", [])]:
            continue
        for label, change in _of(node, in_function=bool(scope) and not scope[-1][0].isupper()):
            yield path, getattr(node, "lineno", statement.lineno), f"{'.'.join(scope) or 'module'}: {label}", change


def _nodes(tree: ast.Module) -> Iterator[tuple[Path, ast.AST, tuple[str, ...]]]:
    """Every node that may be changed, with its path and the names of the functions and classes around it."""
    waiting: list[tuple[Path, ast.AST, tuple[str, ...]]] = [((), tree, ())]
    while waiting:
        path, node, scope = waiting.pop()
        if path:
            yield path, node, scope
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            scope = (*scope, node.name)
        below: list[tuple[Path, ast.AST, tuple[str, ...]]] = []
        for field, value in ast.iter_fields(node):
            if field in _SKIPPED_FIELDS:
                continue
            found = [((field,), value)] if isinstance(value, ast.AST) else []
            if isinstance(value, list):
                found = [((field, at), one) for at, one in enumerate(value) if isinstance(one, ast.AST)]
            below += [((*path, *step), one, scope) for step, one in found if not _is_skipped(one)]
        waiting += reversed(below)


def _is_skipped(node: ast.AST) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return is_docstring or for_types or isinstance(node, _SKIPPED_NODES)


def _of(node: ast.AST, *, in_function: bool) -> Iterator[tuple[str, Change]]:
    text = " ".join(ast.unparse(node).split()) if not isinstance(node, (ast.expr_context, ast.operator)) else ""
    text = text if len(text) < 100 else text[:99] + "…"
    if isinstance(node, ast.expr):
        yield from ((f"{text} -> {label}", change) for label, change in _of_expression(node))
    elif isinstance(node, (ast.If, ast.While)) and not _has_an_opposite(node.test):
        yield f"if {ast.unparse(node.test)} -> if not", _negate_test
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield f"argument {text} dropped", _drop
    elif isinstance(node, _REMOVABLE) and in_function:
        yield f"{text} removed", lambda _: ast.Pass()
        if isinstance(node, ast.Return) and node.value is not None:
            yield f"{text} -> return None", lambda _: ast.Return(value=None)
        if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
            yield f"{text} -> the other way", _turn_arithmetic
        if isinstance(node, ast.Raise) and node.cause is not None:
            yield f"{text} -> without its cause", lambda old: ast.Raise(exc=old.exc, cause=None)
    elif isinstance(node, ast.ExceptHandler):
        yield f"except {ast.unparse(node.type) if node.type else ''} -> lets it through", _reraise


def _of_expression(node: ast.expr) -> Iterator[tuple[str, Change]]:  # noqa: C901, PLR0912 - a table, one row a branch
    if isinstance(node, ast.Compare):
        for at, operation in enumerate(node.ops):
            for other in _COMPARISONS[type(operation)]:
                yield f"{other.__name__}{at or ''}", _with_comparison(at, other)
    elif isinstance(node, ast.BoolOp):
        other_word = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield other_word.__name__.lower(), lambda old: ast.BoolOp(op=other_word(), values=old.values)
        for at in range(len(node.values)):
            yield f"without operand {at + 1}", _without_operand(at)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "without not", lambda old: old.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield _ARITHMETIC[type(node.op)].__name__, _turn_arithmetic
    elif isinstance(node, ast.IfExp) and not _has_an_opposite(node.test):
        yield "not", _negate_test
    elif isinstance(node, ast.Lambda):
        yield "lambda: None", _empty_lambda
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        for at, element in enumerate(node.elts):
            yield f"without {ast.unparse(element)}", _without_element(at)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value), lambda old: ast.Constant(value=not old.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "+1", lambda old: ast.Constant(value=old.value + 1)
        yield "-1", lambda old: ast.Constant(value=old.value - 1)


def _has_an_opposite(test: ast.expr) -> bool:
    """Whether the test's own change is its negation already: no need to count it twice."""
    negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    one_way = (ast.Is, ast.IsNot, ast.Eq, ast.NotEq, ast.In, ast.NotIn)
    return negated or (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], one_way))


def _drop(_: Any) -> None:
    return None


def _negate_test(old: Any) -> Any:
    old.test = ast.UnaryOp(op=ast.Not(), operand=old.test)
    return old


def _turn_arithmetic(old: Any) -> Any:
    old.op = _ARITHMETIC[type(old.op)]()
    return old


def _empty_lambda(old: Any) -> Any:
    old.body = ast.Constant(value=None)
    return old


def _reraise(old: Any) -> Any:
    old.body = [ast.Raise(exc=None, cause=None)]
    return old


def _with_comparison(at: int, other: type[ast.cmpop]) -> Change:
    def change(old: Any) -> Any:
        old.ops[at] = other()
        return old

    return change


def _without_operand(at: int) -> Change:
    def change(old: Any) -> Any:
        del old.values[at]
        return old if len(old.values) > 1 else old.values[0]

    return change


def _without_element(at: int) -> Change:
    def change(old: Any) -> Any:
        del old.elts[at]
        return old

    return change
