"""Faults of the status: errors, redirects, rate limits."""

import datetime as dt
import email.utils

import attrs

from kustom_hpp.sandbox.faults.base import (
    Args,
    FaultType,
    error_body_fault,
    redirect_fault,
    response_fault,
    status_fault,
    wait_fault,
)
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import RequestContext


def _success(status: int) -> FaultType:
    def respond(context: RequestContext, args: Args) -> RawResponse:  # noqa: ARG001
        response = attrs.evolve(context.healthy_response(), status=status)
        return response.with_body(b"") if status == 204 else response  # noqa: PLR2004

    about = f"{status} instead of the usual success status"
    return response_fault(f"status_{status}", about, respond, processes_request=True)


def _date(seconds: float) -> str:
    return email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds), usegmt=True)


def _rate_limited(context: RequestContext, args: Args) -> RawResponse:
    limit, reset = ("x-ratelimit-limit", "40, 40;w=1"), ("x-ratelimit-reset", f"{args['seconds']:g}")
    return context.error(args["status"]).with_headers(limit, ("x-ratelimit-remaining", "0"), reset)


STATUS_FAULTS = (
    *map(status_fault, (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 520)),
    *map(_success, (200, 201, 202, 204)),
    redirect_fault(302),
    redirect_fault(303, processes_request=True),  # "done, look there" after a POST (RFC 9110, section 15.4.4)
    redirect_fault(307),
    wait_fault("retry_after_seconds", "`seconds`", lambda seconds: f"{seconds:g}"),
    wait_fault("retry_after_date", "an HTTP date `seconds` ahead", _date),
    wait_fault("status_503_retry_after", "`seconds`", lambda seconds: f"{seconds:g}", status=503),
    response_fault(
        "ratelimit",
        "429 with the x-ratelimit headers, reset in `seconds`",
        _rate_limited,
        defaults={"status": 429, "seconds": 1.0, "commit": 0},
    ),
    error_body_fault("error_empty", "empty", lambda _: b""),
    error_body_fault("error_text", "text", lambda _: b"upstream connect error", "text/plain"),
    error_body_fault("error_html", "HTML", lambda _: b"<html><h1>Bad Gateway</h1></html>", "text/html"),
)
