"""HTTP responses as bytes, so that a fault can break one at any place."""

import json
from http.client import responses
from typing import Any

import attrs
from aiohttp import web
from attrs import frozen
from multidict import CIMultiDict

_JSON = ("Content-Type", "application/json")
_UNAUTHORIZED = 401
CHALLENGE = ("WWW-Authenticate", 'Basic realm="Kustom HPP sandbox", charset="UTF-8"')
"""Required in a 401 (RFC 9110, section 11.6.1): some clients send credentials, and browsers ask for them, only after it."""


@frozen(kw_only=True)
class RawResponse:
    """An HTTP/1.1 response; `encode()` returns its bytes."""

    status: int = 201
    reason: str | None = None
    """None: the standard one."""
    headers: tuple[tuple[str, str], ...] = ()
    """All headers but Content-Length."""
    body: bytes = b""

    def head(self, *framing: tuple[str, str]) -> bytes:
        """Return status line, headers and empty line, with these headers last."""
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, '') if self.reason is None else self.reason}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *framing)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """Return the whole response, with its Content-Length."""
        return self.head(("Content-Length", str(len(self.body)))) + self.body

    def for_aiohttp(self) -> web.Response:
        """Return the response as aiohttp sends it."""
        return web.Response(
            status=self.status, reason=self.reason, headers=CIMultiDict(self.headers), body=self.body or None
        )

    def with_body(self, body: bytes, *headers: tuple[str, str]) -> "RawResponse":
        """Return the response with another body and more headers."""
        return attrs.evolve(self, body=body, headers=(*self.headers, *headers))

    def with_headers(self, *headers: tuple[str, str]) -> "RawResponse":
        """Return the response with more headers; a present one is replaced."""
        names = {name.lower() for name, _ in headers}
        others = tuple(header for header in self.headers if header[0].lower() not in names)
        return attrs.evolve(self, headers=(*others, *headers))


def error_code(status: int) -> str:
    """Return an `error_code` for a status without a code of its own."""
    return responses.get(status, "").upper().replace(" ", "_") or f"STATUS_{status}"


def dumps(value: Any) -> bytes:
    """Return a value as JSON bytes, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def of_value(status: int, value: dict[str, Any] | None, correlation_id: str) -> RawResponse:
    """Return a JSON response of the API; without a value, a 204."""
    correlation = ("Klarna-Correlation-Id", correlation_id)
    if value is None:
        return RawResponse(status=204, headers=(correlation,))
    return RawResponse(status=status, headers=(_JSON, correlation), body=dumps(value))


def error(status: int, code: str, messages: list[str], correlation_id: str) -> RawResponse:
    """Return an error as in docs.kustom.co, errors in checkout."""
    body = {"error_code": code, "error_messages": messages, "correlation_id": correlation_id}
    response = of_value(status, body, correlation_id)
    return response.with_headers(CHALLENGE) if status == _UNAUTHORIZED else response
