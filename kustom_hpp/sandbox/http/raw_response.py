"""HTTP answers as bytes, so that a fault can break one exactly where it wants to."""

import http
import json
from typing import Any

import attrs
from attrs import frozen

_JSON = ("Content-Type", "application/json")


@frozen(kw_only=True)
class Answer:
    """An HTTP/1.1 answer: `encode()` is what goes over the wire."""

    status: int = 201
    reason: str | None = None
    """None for the usual one."""
    headers: tuple[tuple[str, str], ...] = ()
    """All but Content-Length."""
    body: bytes = b""

    def head(self, *framing: tuple[str, str]) -> bytes:
        """Status line and headers up to and with the empty line, with these headers last."""
        lines = [f"HTTP/1.1 {self.status} {reason(self.status) if self.reason is None else self.reason}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *framing)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """The whole answer, well-formed, its Content-Length true."""
        return self.head(("Content-Length", str(len(self.body)))) + self.body

    def chunked_head(self) -> bytes:
        """The head of an answer whose body comes in chunks."""
        return self.head(("Transfer-Encoding", "chunked"))

    def with_body(self, body: bytes, *headers: tuple[str, str]) -> "Answer":
        """The same answer with another body and, where given, further headers."""
        return attrs.evolve(self, body=body, headers=(*self.headers, *headers))

    def with_headers(self, *headers: tuple[str, str]) -> "Answer":
        """The same answer with further headers; one that it has already is replaced."""
        names = {name.lower() for name, _ in headers}
        kept = tuple(header for header in self.headers if header[0].lower() not in names)
        return attrs.evolve(self, headers=(*kept, *headers))


def reason(status: int) -> str:
    """The usual reason phrase of a status; empty where it has none."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def code(status: int) -> str:
    """An `error_code` for a status that has no code of its own."""
    return reason(status).upper().replace(" ", "_") or f"STATUS_{status}"


def dumps(value: Any) -> bytes:
    """Plain values as JSON bytes, without blanks."""
    return _ENCODE(value).encode("utf-8", "surrogatepass")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def json_answer(status: int, value: dict[str, Any], correlation_id: str) -> Answer:
    """An answer of the API that has a body."""
    return json_bytes(status, dumps(value), correlation_id)


def json_bytes(status: int, body: bytes, correlation_id: str) -> Answer:
    """The same, with the body as the JSON that it is."""
    return Answer(status=status, headers=(_JSON, ("Klarna-Correlation-Id", correlation_id)), body=body)


def empty(correlation_id: str) -> Answer:
    """The 204 of an operation that has nothing to say."""
    return Answer(status=204, headers=(("Klarna-Correlation-Id", correlation_id),))


def error(status: int, code: str, messages: list[str], correlation_id: str) -> Answer:
    """A refusal in the API's shape. Source: docs.kustom.co, errors in checkout."""
    body = {"error_code": code, "error_messages": messages, "correlation_id": correlation_id}
    return json_answer(status, body, correlation_id)
