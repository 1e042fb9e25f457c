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
PLAIN = {
    "url_field": None, "response_model": None, "rate_limit_group": "others", "unreadable_body_in_error": False,
    "idempotent": False, "safe": False, "retry_statuses": set(), "not_found_means_done": False,
}  # fmt: skip
TEXTS = ("unknown_outcome_advice", "unreadable_response_advice", "status_hints")
FUNCTIONS = ("encode", "secrets_in_body")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            CREATE_SESSION,
            {
                "name": "create_session", "method": "POST", "path": "/hpp/v1/sessions", "response_model": hpp.Session,
                "rate_limit_group": "creates", "unreadable_body_in_error": True,
            },
        ),
        (
            READ_SESSION,
            {
                "name": "read_session", "method": "GET", "path": OF_A_SESSION, "url_field": "session_url",
                "response_model": hpp.SessionDetails, "idempotent": True, "safe": True,
            },
        ),
        (
            DISABLE_SESSION,
            {
                "name": "disable_session", "method": "DELETE", "path": OF_A_SESSION, "url_field": "session_url",
                "idempotent": True, "not_found_means_done": True,
            },
        ),
        (
            DISTRIBUTE_SESSION,
            {
                "name": "distribute_session", "method": "POST", "path": f"{OF_A_SESSION}/distribution",
                "url_field": "distribution_url", "retry_statuses": {503},
            },
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_the_rows(row, expected):
    facts = attrs.asdict(row, filter=lambda attribute, _: attribute.name not in (*TEXTS, *FUNCTIONS))
    assert facts == PLAIN | expected
    assert (row.encode is not None) is (row.method == "POST")


def test_every_row_is_a_method_of_the_client():
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS) == 4
    assert all(callable(getattr(hpp.HPPClient, row.name)) for row in OPERATIONS)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_only_what_must_not_be_repeated_is_said_to_be(row):
    assert ("Do not retry" in row.unknown_outcome_advice) is (row is CREATE_SESSION)
    assert row.unknown_outcome_advice.endswith(("Read it again", "Disable it again")) is row.idempotent
