"""Faults that answer something else than 201: statuses, redirects, waits to keep, and error bodies."""

import datetime as dt
import email.utils
from collections.abc import Callable
from typing import Any

import attrs

from kustom_hpp.sandbox.faults.base import Args, Call, Kind, Then, answers
from kustom_hpp.sandbox.faults.bodies import packed, plain, stream
from kustom_hpp.sandbox.http.raw_response import Answer, dumps

_REFUSALS = (
    400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 425, 426,
    428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599,
)  # fmt: skip
_AFTER_WORK = (408, 500, 502, 503, 504)
"""Statuses that gateways send after the API behind them did the work too."""
_NOT_MODIFIED, _SEE_OTHER = 304, 303
_REDIRECTS = (300, 301, 302, 303, 307, 308)
_OTHERS = (304, 305, 306, 600, 999)


def _status(status: int, *, commits: bool = False, name: str = "") -> Kind:
    def build(call: Call, args: Args) -> Answer:  # noqa: ARG001
        answer = call.error(status)
        return answer.with_body(b"") if status == _NOT_MODIFIED else answer

    about = f"{status} in the API's error shape" + (", after processing" if commits else "")
    # `commit=1` (or 0) says otherwise: whether a gateway's 5xx came after the work is not told by its status.
    return answers(name or f"status_{status}", about, build, commits=commits, defaults={"commit": int(commits)})


def _accepted(status: int) -> Kind:
    def build(call: Call, args: Args) -> Answer:  # noqa: ARG001
        answer = attrs.evolve(call.answer(), status=status)
        return answer.with_body(b"") if status in {204, 205} else answer

    return answers(f"status_{status}", f"{status} where 201 is usual", build, commits=True)


def _redirect(status: int, *, same: bool) -> Kind:
    async def play(call: Call, args: Args) -> Then:  # noqa: ARG001
        base = call.base_url if same else await call.sink()
        answer = call.error(status).with_headers(("Location", base + call.path))
        await call.send(answer)
        return Then.KEEP

    # 303 after a POST says "done, look there": it is the one that means processed (RFC 9110, 15.4.4).
    commits = status == _SEE_OTHER
    target = "the same path" + (" of the same origin" if same else " of the sink, another origin")
    return Kind(
        name=f"redirect_{status}" + ("_same" if same else ""),
        about=f"{status} to {target}",
        commits=commits,
        defaults={"commit": int(commits)},
        play=play,
    )


# -------------------------------------------------------------------------------------------------- waits to keep


def _date(seconds: float) -> str:
    return email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds), usegmt=True)


def _wait(name: str, about: str, value: Callable[[float], str], *, status: int = 429, **more: Any) -> Kind:
    def build(call: Call, args: Args) -> Answer:
        return call.error(args["status"]).with_headers(("Retry-After", value(args["seconds"])))

    defaults = {"status": status, "seconds": 1.0, "commit": int(more.get("commits", False))}
    return answers(name, f"{status} with Retry-After: {about}", build, defaults=defaults, **more)


def _ratelimit(call: Call, args: Args) -> Answer:
    limit, reset = ("x-ratelimit-limit", "40, 40;w=1"), ("x-ratelimit-reset", f"{args['seconds']:g}")
    return call.error(args["status"]).with_headers(limit, ("x-ratelimit-remaining", "0"), reset)


# -------------------------------------------------------------------------------------------------------- error bodies


def _error(name: str, about: str, build: Callable[[Call], bytes], content_type: str = "application/json") -> Kind:
    def answer(call: Call, args: Args) -> Answer:
        return call.error(args["status"]).with_headers(("Content-Type", content_type)).with_body(build(call))

    return answers(name, f"an error whose body is {about}", answer, defaults={"status": 400, "commit": 0})


def _wrong_error(call: Call) -> bytes:  # noqa: ARG001
    return dumps({"error_code": {"a": 1}, "error_messages": [None, 5, ["x"]], "correlation_id": 17})


def _singular(call: Call) -> bytes:
    one = {"error_code": "BAD_VALUE", "error_message": "only one", "correlation_id": call.correlation_id}
    return dumps(one | {"service_version": 1, "fraud_status": None})


def _evil(call: Call) -> bytes:  # noqa: ARG001
    evil = "\x1b[31mred\x07\x00\r\nINFO injected line\u202e\u2028" + "A" * 5_000
    return dumps({"error_code": "EVIL\r\n\x1b[0m", "error_messages": [evil, "\x9b0m"], "correlation_id": "id\r\n\x00"})


def _echo(call: Call, args: Args) -> Answer:
    authorization = next((value for name, value in call.headers if name.lower() == b"authorization"), b"")
    text = authorization.decode("latin-1")
    body = {
        "error_code": "BAD_VALUE",
        "error_messages": [f"Authorization: {text}", call.body.decode("utf-8", "replace")],
        "correlation_id": call.correlation_id,
    }
    status = args["status"]
    return attrs.evolve(call.error(status).with_body(dumps(body)), reason=f"Refused {text}")


async def _huge(call: Call, args: Args) -> Then:
    start = b'{"error_code":"BAD_VALUE","error_messages":["'
    return await stream(call, call.error(args["status"]), plain(start, args["mib"], b'"]}'))


async def _bomb(call: Call, args: Args) -> Then:
    start = b'{"error_code":"BAD_VALUE","error_messages":["'
    head = call.error(args["status"]).with_headers(("Content-Encoding", "gzip"))
    return await stream(call, head, packed(start, args["mib"], b'"]}', 31))


STATUSES = (
    *(_status(status) for status in (*_REFUSALS, *_OTHERS)),
    *(_status(status, commits=True, name=f"status_{status}_committed") for status in _AFTER_WORK),
    *(_accepted(status) for status in (200, 202, 204, 205, 299)),
    *(_redirect(status, same=same) for status in _REDIRECTS for same in (False, True)),
    _wait("retry_after_seconds", "`seconds`", lambda seconds: f"{seconds:g}"),
    _wait("retry_after_date", "an HTTP date `seconds` ahead", _date),
    _wait("retry_after_past", "an HTTP date that has passed", lambda _: "Wed, 21 Oct 2015 07:28:00 GMT"),
    _wait("retry_after_naive", "a date without its zone", lambda _: "Wed, 21 Oct 2065 07:28:00"),
    _wait("retry_after_overflow", "a date that no calendar has", lambda _: "Fri, 99 Dec 99999 99:99:99 GMT"),
    _wait("retry_after_garbage", "words", lambda _: "soon; very soon"),
    _wait("retry_after_empty", "nothing", lambda _: ""),
    _wait("retry_after_negative", "-5", lambda _: "-5"),
    _wait("retry_after_huge", "999999999", lambda _: "999999999"),
    _wait("retry_after_digits", "5,000 digits", lambda _: "9" * 5_000),
    _wait("retry_after_superscript", "²³", lambda _: "²³"),
    _wait("retry_after_nan", "nan", lambda _: "nan"),
    _wait("retry_after_inf", "inf", lambda _: "inf"),
    _wait("retry_after_exponent", "1e9", lambda _: "1e9"),
    _wait("status_503_retry_after", "`seconds`", lambda seconds: f"{seconds:g}", status=503),
    _wait(
        "status_503_retry_after_committed",
        "`seconds`, after processing",
        lambda seconds: f"{seconds:g}",
        status=503,
        commits=True,
    ),
    answers(
        "ratelimit",
        "429 with the x-ratelimit headers, reset in `seconds`",
        _ratelimit,
        defaults={"status": 429, "seconds": 1.0, "commit": 0},
    ),
    _error("error_empty", "empty", lambda _: b""),
    _error("error_text", "text", lambda _: b"upstream connect error", "text/plain"),
    _error("error_html", "HTML", lambda _: b"<html><h1>Bad Gateway</h1></html>", "text/html"),
    _error("error_cut", "half of a JSON object", lambda _: b'{"error_code":"BAD_VAL'),
    _error("error_list", "a JSON list", lambda _: b'["BAD_VALUE"]'),
    _error("error_null", "null", lambda _: b"null"),
    _error("error_deep", "100,000 levels of nesting", lambda _: b"[" * 100_000),
    _error("error_not_utf8", "Latin-1", lambda _: b'{"error_code":"caf\xe9"}'),
    _error("error_wrong_types", "an object with other JSON types", _wrong_error),
    _error("error_message_singular", "one with error_message instead of error_messages", _singular),
    _error("status_evil_error", "one whose texts hold control characters", _evil),
    answers(
        "echo_auth",
        "an error that echoes Authorization and the request's body, in its body and reason phrase",
        _echo,
        defaults={"status": 400, "commit": 0},
    ),
    Kind(
        name="error_huge",
        about="an error whose body is `mib` MiB",
        play=_huge,
        defaults={"status": 400, "mib": 256, "commit": 0},
    ),
    Kind(
        name="error_bomb",
        about="an error whose body is a gzip bomb of `mib` MiB",
        play=_bomb,
        defaults={"status": 500, "mib": 256, "commit": 0},
    ),
)
