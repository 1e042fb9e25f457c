"""A transport without sockets, for tests of what stands above it: answers as scripted, remembers what was sent."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from multidict import CIMultiDict

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp.errors import ClientClosedError, ConfigError, HPPError, LeaseLostError

Step = HttpResponse | HPPError | Callable[[HttpRequest], "HttpResponse | HPPError"]


class FakeTransport:
    """Answers each request with the next step of a script; past its end it repeats the last one.

    A step is an `HttpResponse` (see `answer`), one of our errors, which is raised, or a function of the request that
    gives one of them. An error that may have been processed sets the mark, as the real transport would.
    """

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[HttpRequest] = []
        """Every request that came, in order."""
        self.closed = False

    @staticmethod
    def answer(status: int = 201, body: Any = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """An answer; a body that is not bytes is written as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return HttpResponse(status=status, headers=CIMultiDict(headers or {}), body=data)

    async def send(self, request: HttpRequest, mark: SendMarker) -> HttpResponse:
        """Take the next step of the script."""
        if self.closed:
            msg = "the client is closed: make a new one"
            raise ClientClosedError(msg)
        if not self._steps:
            msg = (
                "FakeTransport has no steps: give it an HttpResponse (see FakeTransport.answer), an error or a function"
            )
            raise ConfigError(msg)
        if request.may_send is not None and not request.may_send():
            msg = "the lease on this call ended: nothing was sent"
            raise LeaseLostError(msg)
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if callable(step):
            step = step(request)
        if isinstance(step, HPPError):
            mark.sent = step.delivery is not None and step.delivery.may_have_taken_effect
            raise step
        mark.sent = True
        return step

    async def aclose(self) -> None:
        """Close."""
        self.closed = True
