"""A transport without sockets, for tests: returns scripted responses and records the requests."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from multidict import CIMultiDict

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp.errors import ClientClosedError, ConfigError, HPPError, LeaseLostError

__all__ = ["FakeTransport"]

ScriptedResult = HttpResponse | HPPError | Callable[[HttpRequest], "HttpResponse | HPPError"]


class FakeTransport:
    """A transport that returns the next result of a script, and repeats the last one at its end.

    A result is an `HttpResponse` (see `response`), one of the library's errors, which is raised, or a function of the
    request that returns one of them. An error of unknown outcome sets the marker, as the real transport would.
    """

    def __init__(self, *results: ScriptedResult) -> None:
        self._results = list(results)
        self.requests: list[HttpRequest] = []
        """Every request, in order."""
        self.closed = False

    @staticmethod
    def response(status: int = 201, body: Any = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """Return a response; a body that is not bytes is written as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return HttpResponse(status=status, headers=CIMultiDict(headers or {}), body=data)

    async def send(self, request: HttpRequest, marker: SendMarker) -> HttpResponse:
        """Return or raise the next result of the script."""
        if self.closed:
            raise ClientClosedError("the client is closed. Create a new one")
        if not self._results:
            raise ConfigError(
                "FakeTransport has no results. Give it an HttpResponse (see FakeTransport.response), an error or a function"
            )
        if request.may_send is not None and not request.may_send():
            raise LeaseLostError("the lease on this call ended: nothing was sent")
        self.requests.append(request)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if callable(result):
            result = result(request)
        if isinstance(result, HPPError):
            marker.sent = result.delivery is not None and result.delivery.may_have_taken_effect
            raise result
        marker.sent = True
        return result

    async def aclose(self) -> None:
        """Close."""
        self.closed = True
