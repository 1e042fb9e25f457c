"""The table of endpoints, row by row: a change of a rule is a change of this test."""

import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp._protocol.operations import (
    CREATE_SESSION,
    DISABLE_SESSION,
    DISTRIBUTE_SESSION,
    OPERATIONS,
    READ_SESSION,
)

OF_A_SESSION = "/hpp/v1/sessions/{session_id}"
PLAIN = {"link": None, "answer": None, "repeatable": False, "safe": False, "try_again": set(), "gone_is_done": False}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            CREATE_SESSION,
            {"name": "create_session", "method": "POST", "path": "/hpp/v1/sessions", "answer": hpp.Session},
        ),
        (
            READ_SESSION,
            {
                "name": "read_session", "method": "GET", "path": OF_A_SESSION, "link": "session_url",
                "answer": hpp.SessionDetails, "repeatable": True, "safe": True,
            },
        ),
        (
            DISABLE_SESSION,
            {
                "name": "disable_session", "method": "DELETE", "path": OF_A_SESSION, "link": "session_url",
                "repeatable": True, "gone_is_done": True,
            },
        ),
        (
            DISTRIBUTE_SESSION,
            {
                "name": "distribute_session", "method": "POST", "path": f"{OF_A_SESSION}/distribution",
                "link": "distribution_url", "try_again": {503},
            },
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_the_rows(row, expected):
    facts = attrs.asdict(row)
    del facts["in_doubt"], facts["meanings"]
    assert facts == PLAIN | expected


def test_every_row_is_a_method_of_the_client():
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS) == 4
    assert all(callable(getattr(hpp.HPPClient, row.name)) for row in OPERATIONS)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_only_what_must_not_be_repeated_is_said_to_be(row):
    assert ("never repeat it" in row.in_doubt) is (row is CREATE_SESSION)
    assert ("it is safe to" in row.in_doubt) is row.repeatable
