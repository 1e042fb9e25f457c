"""The lifecycle of sessions, without a socket: what each action makes of a session, and where it sends the browser."""

import copy
import datetime as dt
import re
import uuid

import attrs
import pytest

from kustom_hpp import models
from kustom_hpp._protocol.codec import codec
from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox import Action, Sandbox, SandboxState, SessionClosedError, StoredSession, TimelineEntry
from kustom_hpp.sandbox.stored_session import MAX_TIMELINE

ORDER_ID = "92d97f60-7a78-46a5-8f68-c56fe52dc4af"
KCO = f"https://api.playground.kustom.co/checkout/v3/orders/{ORDER_ID}"
KP = f"https://api.playground.kustom.co/payments/v1/sessions/{ORDER_ID}"
ALL = "sid={{session_id}}&order={{order_id}}&token={{authorization_token}}"
NAMES = ("success", "cancel", "back", "failure", "error")
URLS = {name: f"https://shop.example/{name}?{ALL}" for name in NAMES}


def made(state: SandboxState, url: str = KCO, *, mode: str | None = None, **urls: str | None) -> StoredSession:
    """A session whose merchant URLs are these; all but `back` where none are given."""
    given = urls or {name: value for name, value in URLS.items() if name != "back"}
    session = state.create(
        models.CreateSessionRequest(
            payment_session_url=url,
            merchant_urls=models.MerchantUrls(**given),
            options=models.Options(place_order_mode=mode and models.PlaceOrderMode(mode)),
        )
    )
    assert session is not None
    return session


def whats(session: StoredSession) -> list[str]:
    return [moment.what for moment in session.timeline]


@pytest.fixture
def state() -> SandboxState:
    return SandboxState()


# The walk along the lifecycle.


def test_a_new_session_waits(state: SandboxState) -> None:
    session = made(state)
    assert session.status is SessionStatus.WAITING
    assert session.created_at == session.updated_at
    assert whats(session) == ["created"]
    assert session.read_json() == {
        "expires_at": session.created_json("")["expires_at"],
        "session_id": session.session_id,
        "status": "WAITING",
        "updated_at": session.read_json()["updated_at"],
    }


@pytest.mark.parametrize(
    ("action", "status", "what", "goes_to"),
    [
        (Action.OPEN, SessionStatus.IN_PROGRESS, None, None),
        (Action.PAY, SessionStatus.COMPLETED, "paid", "success"),
        (Action.DECLINE, SessionStatus.FAILED, "declined", "failure"),
        (Action.ERROR, SessionStatus.ERROR, "error", "error"),
        (Action.CANCEL, SessionStatus.CANCELLED, "cancelled", "cancel"),
        (Action.BACK, SessionStatus.BACK, "went back", None),
    ],
)
def test_what_an_action_makes_of_a_session(
    state: SandboxState, action: Action, status: SessionStatus, what: str | None, goes_to: str | None
) -> None:
    session = made(state)
    state.clock.advance(seconds=5)
    target = state.act(session, action)
    assert session.status is status
    assert session.read_json()["status"] == status
    assert whats(session) == ["created", "opened", *([what] if what else [])]
    assert [moment.status for moment in session.timeline][-1] is status
    assert session.updated_at - session.created_at >= dt.timedelta(seconds=5)
    assert (target or "").partition("?")[0] == (f"https://shop.example/{goes_to}" if goes_to else "")


def test_an_open_session_is_opened_once_until_it_was_left(state: SandboxState) -> None:
    session = made(state)
    for _ in range(3):
        assert state.act(session, Action.OPEN) is None
    assert whats(session) == ["created", "opened"]
    for action in (Action.DECLINE, Action.ERROR, Action.BACK):
        state.act(session, action)
        state.act(session, Action.OPEN)
        assert session.status is SessionStatus.IN_PROGRESS
    assert whats(session)[2:] == ["declined", "opened", "error", "opened", "went back", "opened"]


@pytest.mark.parametrize("first", [Action.DECLINE, Action.ERROR, Action.BACK])
def test_whoever_did_not_get_through_may_try_again(state: SandboxState, first: Action) -> None:
    session = made(state)
    state.act(session, first)
    state.act(session, Action.PAY)
    assert session.status is SessionStatus.COMPLETED
    assert whats(session)[3:] == ["opened", "paid"]


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("end", ["paid", "cancelled", "disabled", "expired", "expired order", "paid and expired"])
def test_what_is_over_is_over(state: SandboxState, end: str, action: Action) -> None:
    session = made(state)
    if end.startswith("paid"):
        state.act(session, Action.PAY)
    elif end == "cancelled":
        state.act(session, Action.CANCEL)
    elif end == "disabled":
        state.disable(session)
    if end == "expired order":
        state.expire(KCO)
    elif end.endswith("expired"):
        state.clock.advance(hours=47)
    before = copy.copy((session.status, session.updated_at, session.timeline))
    if end == "paid" and action is Action.OPEN:
        assert state.act(session, action) is None
    else:
        with pytest.raises(SessionClosedError, match="expired" if "expired" in end else str(session.status)):
            state.act(session, action)
    assert (session.status, session.updated_at, session.timeline) == before


# Back and cancel.


def test_with_a_back_url_cancelling_is_going_back(state: SandboxState) -> None:
    session = made(state, back=URLS["back"], cancel=URLS["cancel"])
    assert session.secondary_action is Action.BACK
    for action in (Action.CANCEL, Action.BACK):
        target = state.act(session, action)
        assert target is not None
        assert target.startswith("https://shop.example/back?")
        assert session.status is SessionStatus.BACK
    state.act(session, Action.PAY)


@pytest.mark.parametrize("back", [None, ""])
def test_without_one_it_is_final(state: SandboxState, back: str | None) -> None:
    session = made(state, back=back, cancel="https://shop.example/")
    assert session.secondary_action is Action.CANCEL
    assert state.act(session, Action.CANCEL) == "https://shop.example/"
    assert session.status is SessionStatus.CANCELLED


# Where the browser goes.


@pytest.mark.parametrize("action", [Action.PAY, Action.DECLINE, Action.ERROR, Action.BACK, Action.CANCEL])
@pytest.mark.parametrize("empty", [None, "", "no merchant urls"])
def test_without_a_url_it_stays_on_a_generic_page(state: SandboxState, action: Action, empty: str | None) -> None:
    if empty == "no merchant urls":
        session = state.create(models.CreateSessionRequest(payment_session_url=KCO))
        assert session is not None
    else:
        session = made(state, **dict.fromkeys(NAMES, empty))
    assert state.act(session, action) is None


@pytest.mark.parametrize(("error", "expected"), [(None, "f"), ("", "f"), ("https://shop.example/e", "e")])
def test_failure_stands_in_for_error(state: SandboxState, error: str | None, expected: str) -> None:
    session = made(state, error=error, failure="https://shop.example/f")
    assert state.act(session, Action.ERROR) == f"https://shop.example/{expected}"


def test_error_does_not_stand_in_for_failure(state: SandboxState) -> None:
    assert state.act(made(state, error="https://shop.example/e"), Action.DECLINE) is None


@pytest.mark.parametrize(
    ("url", "mode", "makes_order", "knows_order_before"),
    [
        (KCO, None, True, True),
        (KCO, "NONE", True, True),
        (KCO, "CAPTURE_ORDER", True, True),
        (KP, None, False, False),
        (KP, "NONE", False, False),
        (KP, "PLACE_ORDER", True, False),
        (KP, "CAPTURE_ORDER", True, False),
    ],
)
def test_which_placeholders_are_filled_in(
    state: SandboxState, url: str, mode: str | None, *, makes_order: bool, knows_order_before: bool
) -> None:
    session = made(state, url, mode=mode, **URLS)
    sid, unknown = session.session_id, ("{{order_id}}", "{{authorization_token}}")
    order = ORDER_ID if knows_order_before else unknown[0]
    for action in (Action.DECLINE, Action.ERROR, Action.BACK):
        target = state.act(session, action)
        assert target is not None
        assert target.partition("?")[2] == f"sid={sid}&order={order}&token={unknown[1]}"
        assert not {"order_id", "authorization_token", "klarna_reference"} & set(session.read_json())

    target = state.act(session, Action.PAY)
    details = session.read_json()
    assert ("order_id" in details, "authorization_token" in details) == (makes_order, not makes_order)
    assert ("klarna_reference" in details) == makes_order
    assert target == (
        f"https://shop.example/success?sid={sid}&order={details.get('order_id', unknown[0])}"
        f"&token={details.get('authorization_token', unknown[1])}"
    )
    if knows_order_before:
        assert details["order_id"] == ORDER_ID
    else:
        assert uuid.UUID(details["order_id" if makes_order else "authorization_token"])
    # And the token shows up in success alone, however much is known.
    assert "{{authorization_token}}" in (session.merchant_url("failure") or "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example/{{session_id}}/{{session_id}}", "https://shop.example/ID/ID"),
        ("https://shop.example/?a={{ session_id }}", "https://shop.example/?a={{ session_id }}"),
        ("https://shop.example/?a={{sid}}", "https://shop.example/?a={{sid}}"),
        ("https://shop.example/?a={session_id}", "https://shop.example/?a={session_id}"),
        ("https://shop.example/?a={{{session_id}}}", "https://shop.example/?a={ID}"),
        ("https://shop.example/?a={{Session_id}}", "https://shop.example/?a={{Session_id}}"),
    ],
)
def test_what_is_a_placeholder(state: SandboxState, url: str, expected: str) -> None:
    session = made(state, success=url)
    assert session.merchant_url("success") == expected.replace("ID", session.session_id)


@pytest.mark.parametrize(
    ("path", "order_id", "merchant_url"),
    [
        ("/checkout/v3/orders/a%2Fb%26c", "a/b&c", "a%2Fb%26c"),
        ("/checkout/v3/orders/abc/?x=1#y", "abc", "abc"),
        ("/", None, "{{order_id}}"),
        ("", None, "{{order_id}}"),
        ("?a=/b", None, "{{order_id}}"),
    ],
)
def test_the_order_id_comes_from_the_url(
    state: SandboxState, path: str, order_id: str | None, merchant_url: str
) -> None:
    session = made(state, f"https://api.example{path}", success="https://shop.example/?o={{order_id}}")
    assert state.act(session, Action.PAY) == f"https://shop.example/?o={merchant_url}"
    assert session.read_json().get("order_id") == order_id


def test_what_it_answers_is_read_by_our_own_model_without_a_rest(state: SandboxState) -> None:
    session = made(state)
    state.check_identity(session)
    first = session.read_json()
    state.act(session, Action.PAY)
    texts = {**first, **session.read_json()}
    assert {name for name, value in texts.items() if isinstance(value, str)} == {
        "expires_at", "klarna_reference", "order_id", "session_id", "status", "updated_at",
    }  # fmt: skip
    assert re.fullmatch(r"[A-Z0-9]{8}", texts["klarna_reference"])
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", texts[name]) for name in ("expires_at", "updated_at"))
    assert codec().encode_model(texts)


# Disabling, and identity checks.


@pytest.mark.parametrize("first", [None, Action.OPEN, Action.BACK, Action.DECLINE, Action.ERROR])
def test_whatever_is_open_can_be_disabled_and_twice(state: SandboxState, first: Action | None) -> None:
    session = made(state)
    if first:
        state.act(session, first)
    state.disable(session)
    assert session.status is SessionStatus.DISABLED
    moments = whats(session)
    assert moments[-1] == "disabled"
    state.disable(session)
    assert whats(session) == moments


def test_what_is_completed_cannot_be_disabled_and_what_is_cancelled_stays_so(state: SandboxState) -> None:
    paid, cancelled = made(state), made(state, f"{KCO}-2")
    state.act(paid, Action.PAY)
    with pytest.raises(SessionClosedError, match="completed"):
        state.disable(paid)
    state.act(cancelled, Action.CANCEL)
    state.disable(cancelled)
    assert (paid.status, cancelled.status) == (SessionStatus.COMPLETED, SessionStatus.CANCELLED)
    assert "disabled" not in whats(paid) + whats(cancelled)


def test_an_identity_check_ends_with_the_next_action(state: SandboxState) -> None:
    session = made(state)
    state.check_identity(session)
    assert session.read_json()["status"] == "MANUAL_ID_CHECK"
    assert set(session.read_json()["manual_identification"]) == {"challenge", "expires_at"}
    state.act(session, Action.OPEN)
    assert session.read_json()["status"] == "IN_PROGRESS"
    assert "manual_identification" not in session.read_json()
    state.disable(session)
    with pytest.raises(SessionClosedError, match="DISABLED"):
        state.check_identity(session)


def test_a_distribution_token_is_renewed(state: SandboxState) -> None:
    session = made(state)
    old = session.token
    state.renew_token(session)
    assert session.token != old
    assert session.distribution_module("http://x")["standalone_url"].startswith(
        f"http://x/eu/hpp/distribution/{session.token}?"
    )


# Several sessions, and time.


def test_finding(state: SandboxState) -> None:
    session = made(state)
    assert state.find(session.session_id) is session
    assert state.by_page(session.page_id) is session
    assert (state.find(session.page_id), state.by_page(session.session_id), state.find("")) == (None, None, None)
    state.clock.advance(hours=47, seconds=-1)
    assert state.find(session.session_id) is session
    state.clock.advance(1)
    assert state.find(session.session_id) is None
    assert state.by_page(session.page_id) is session


def test_an_expired_payment_session_takes_its_sessions_with_it(state: SandboxState) -> None:
    first, second, other = made(state), made(state), made(state, f"{KCO}-2")
    state.expire(KCO)
    assert (state.find(first.session_id), state.find(second.session_id)) == (None, None)
    assert state.find(other.session_id) is other
    assert [whats(one) for one in (first, second, other)] == [["created", "expired"]] * 2 + [["created"]]
    state.expire(KCO)
    assert whats(first) == ["created", "expired"]


def test_a_paid_order_completes_its_other_sessions(state: SandboxState) -> None:
    first, second, disabled = (made(state) for _ in range(3))
    other = made(state, f"{KCO}-2")
    state.disable(disabled)
    state.act(second, Action.PAY)
    assert [one.status for one in (first, second, disabled, other)] == [
        SessionStatus.COMPLETED, SessionStatus.COMPLETED, SessionStatus.DISABLED, SessionStatus.WAITING,
    ]  # fmt: skip
    assert (first.order_id, first.klarna_reference) == (second.order_id, second.klarna_reference)
    assert whats(first) == ["created", "paid"]
    # And none is made for it any more.
    assert state.create(first.request) is None
    assert state.create(other.request) is not None


def test_a_kp_session_that_places_no_order_may_be_paid_in_each_of_its_sessions(state: SandboxState) -> None:
    first, second = made(state, KP), made(state, KP)
    state.act(first, Action.PAY)
    assert second.status is SessionStatus.WAITING
    state.act(second, Action.PAY)
    assert first.authorization_token != second.authorization_token
    assert state.create(first.request) is not None


def test_only_the_newest_are_remembered() -> None:
    state = SandboxState(remember=2)
    sessions = [made(state, url) for url in (KCO, KCO, f"{KCO}-2", KCO)]
    assert [state.by_page(one.page_id) for one in sessions] == [None, None, *sessions[2:]]
    assert [state.find(one.session_id) for one in sessions] == [None, None, *sessions[2:]]
    assert state.payment_sessions[KCO].sessions == [sessions[3]]
    state.expire(f"{KCO}-3")
    made(state, f"{KCO}-4")
    made(state, f"{KCO}-5")
    assert len(state.sessions) == len(state.payment_sessions) == len(state._pages) == 2


def test_the_timeline_keeps_the_creation_and_the_newest(state: SandboxState) -> None:
    session = made(state)
    for _ in range(MAX_TIMELINE):
        state.act(session, Action.BACK)
    assert len(session.timeline) == MAX_TIMELINE
    assert whats(session)[0] == "created"
    assert whats(session)[-2:] == ["opened", "went back"]


# Those who listen.


def test_listeners_are_told_every_moment_until_they_leave(state: SandboxState) -> None:
    told: list[tuple[str, str, SessionStatus]] = []
    remove = state.listen(lambda session, moment: told.append((session.session_id, moment.what, session.status)))
    session = made(state)
    state.act(session, Action.PAY)
    state.record_event(session, "callback", "200")
    remove()
    remove()
    state.record_event(session, "callback", "200")
    assert told == [
        (session.session_id, "created", SessionStatus.WAITING),
        (session.session_id, "opened", SessionStatus.IN_PROGRESS),
        (session.session_id, "paid", SessionStatus.COMPLETED),
        (session.session_id, "callback", SessionStatus.COMPLETED),
    ]


def test_moments_are_values(state: SandboxState) -> None:
    [moment] = made(state).timeline
    assert moment.at.tzinfo is dt.UTC
    assert attrs.evolve(moment) == moment
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        moment.what = "paid"
    assert isinstance(moment, TimelineEntry)


def test_a_session_shows_no_secret(state: SandboxState) -> None:
    session = made(state, KP, success="https://shop.example/?secret=1")
    state.act(session, Action.PAY)
    session_json = repr((session, session.timeline))
    assert session.token not in session_json
    assert str(session.authorization_token) not in session_json
    assert "secret=1" not in session_json


# From a test.


async def test_a_test_acts_for_the_consumer(sandbox: Sandbox) -> None:
    session = made(sandbox.state, success="https://shop.example/?o={{order_id}}")
    assert sandbox.act(session.session_id, "open") is None
    assert sandbox.act(session, "decline") is None
    answer = models.Session(session_id=session.session_id, redirect_url="https://pay.example/")
    assert sandbox.act(answer, Action.PAY) == f"https://shop.example/?o={ORDER_ID}"
    with pytest.raises(SessionClosedError, match="COMPLETED"):
        sandbox.act(session, "pay")
    with pytest.raises(ValueError, match="steal"):
        sandbox.act(session, "steal")
    with pytest.raises(LookupError, match="no session x"):
        sandbox.act("x", "pay")
