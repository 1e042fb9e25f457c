"""The table is whole: every fault that the sandbox can play has one row, every row has its fault, every trap its test."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.table import ROWS, Place, known_to, names_of
from tests.support.faults import ALL_FAULTS as FAULTS


def test_every_fault_of_the_sandbox_has_a_row_and_every_row_its_fault():
    assert names_of(Place.API) == set(FAULTS)


def test_every_fault_has_exactly_one_row_as_it_is_by_default():
    plain = Counter(row.told for row in ROWS if row.place is Place.API and "~" not in row.told)
    assert plain == dict.fromkeys(FAULTS, 1)


@pytest.mark.parametrize("place", [Place.PORT, Place.PROXY, Place.TUNNEL])
def test_every_port_and_every_behaviour_of_the_proxy_has_a_row(place):
    assert names_of(place) == known_to(place)


def test_no_row_stands_twice():
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


def test_a_row_with_parameters_says_something_else_than_the_plain_one():
    # Otherwise it would be weight without meaning.
    plain = {row.told: row for row in ROWS if "~" not in row.told}
    for row in ROWS:
        if "~" in row.told and row.place is Place.API:
            other = plain[row.told.partition("~")[0]]
            assert row.told == "double_answer~late=0" or (row.endings, row.processes_request) != (
                other.endings,
                other.processes_request,
            )


def names_in(folder: Path) -> set[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("test_*.py"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("number", range(1, 22))
def test_every_trap_has_a_test(number):
    assert [name for name in names_in(Path(__file__).parent) if name.startswith(f"test_t{number:02}_")]
