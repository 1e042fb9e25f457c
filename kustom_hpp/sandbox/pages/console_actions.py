"""The console's actions, the same as methods and settings of `Sandbox`.

    POST /_sandbox/console/sessions/{session_id}/{action}   pay, decline, error, back, cancel, expire, repeat_callback
    POST /_sandbox/console/faults                           fault, operation, nth, times, probability
    POST /_sandbox/console/faults/clear
    POST /_sandbox/console/faults/{number}/remove
    POST /_sandbox/console/rate_limit                       rate, burst; without a rate there is no limit
    POST /_sandbox/console/latency                          low, high; without a low there is no latency

Each takes the fields of a form and redirects to the console with 303. A failure is the console with a notice: 400 for a
wrong value, 401 without credentials from another machine, 403 for a form of another site, 404 for an unknown session or rule.
"""

from collections.abc import Callable, Mapping

from aiohttp import web
from yarl import URL

from kustom_hpp.sandbox.http.raw_response import CHALLENGE
from kustom_hpp.sandbox.http.server import Handler, Server, respond_and_drain
from kustom_hpp.sandbox.limits import MerchantRateLimit, bucket_of, latency_of
from kustom_hpp.sandbox.pages.access import is_same_origin, is_trusted
from kustom_hpp.sandbox.pages.console import Console
from kustom_hpp.sandbox.pages.console_views import Filter
from kustom_hpp.sandbox.stored_session import Action

ROOT = "/_sandbox/console"
_MAX_FORM = 10_000

Fields = Mapping[str, str]
"""The parts of the path and the fields of the form."""


class ConsoleActions:
    """Handlers of the console's forms."""

    def __init__(self, server: Server, console: Console) -> None:
        self._server = server
        self._console = console

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        rules = self._server.rules
        routes: dict[str, Callable[[Fields], None]] = {
            "/sessions/{session_id}/{action}": self._act,
            "/faults": self._add_fault,
            "/faults/clear": lambda _: rules.clear(),
            "/faults/{number}/remove": lambda fields: rules.remove(rules.find(fields["number"])),
            "/rate_limit": self._set_rate_limit,
            "/latency": self._set_latency,
        }
        for path, action in routes.items():
            app.router.add_post(ROOT + path, self._handler(action))

    def _handler(self, action: Callable[[Fields], None]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await respond_and_drain(request, await self._respond(request, action))

        return handle

    async def _respond(self, request: web.Request, action: Callable[[Fields], None]) -> web.Response:
        if not is_same_origin(request):
            return await self._refuse(request, 403, "Another site sent this form. Use the form on this page.")
        if not is_trusted(request, self._server.credentials):
            text = "Changing the sandbox from another machine takes its username and key."
            response = await self._refuse(request, 401, text)
            response.headers.update([CHALLENGE])
            return response
        if (request.content_length or 0) > _MAX_FORM:
            return await self._refuse(request, 413, "The form is too large.")
        try:
            form = {name: value.strip() for name, value in (await request.post()).items() if isinstance(value, str)}
            action({name: value for name, value in form.items() if value} | dict(request.match_info))
        except LookupError as error:
            return await self._refuse(request, 404, str(error.args[0]))
        except (ValueError, OverflowError) as error:
            return await self._refuse(request, 400, str(error.args[0]))
        location = _filter_of(request).address()
        return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})

    async def _refuse(self, request: web.Request, status: int, notice: str) -> web.Response:
        notice = notice[:1].upper() + notice[1:] + ("" if notice.endswith(".") else ".")
        return await self._console.page(request, _filter_of(request), notice=notice, status=status)

    def _act(self, fields: Fields) -> None:
        session = self._server.state.sessions.get(fields["session_id"])
        if session is None:
            raise LookupError("the sandbox has no such session")
        if fields["action"] == "expire":
            self._server.state.expire(session.payment_session_url)
        elif fields["action"] == "repeat_callback":
            self._server.callbacks.repeat(session)
        elif fields["action"] in [*Action]:
            self._server.state.act(session, Action(fields["action"]))
        else:
            raise LookupError(f"there is no action {fields['action']!r}")

    def _add_fault(self, fields: Fields) -> None:
        if "fault" not in fields:
            raise ValueError("choose a fault")
        conditions = {name: fields[name] for name in ("operation", "nth", "times", "probability") if name in fields}
        self._server.rules.add(fields["fault"], **conditions)

    def _set_rate_limit(self, fields: Fields) -> None:
        rate, burst = _number(fields, "rate"), _number(fields, "burst")
        limit = None if rate is None else MerchantRateLimit(rate, None if burst is None else int(burst))
        self._server.rate_limit = bucket_of(limit)

    def _set_latency(self, fields: Fields) -> None:
        low, high = _number(fields, "low"), _number(fields, "high")
        self._server.latency = latency_of(low if low is None or high is None else (low, high))


def _number(fields: Fields, name: str) -> float | None:
    if name not in fields:
        return None
    try:
        return float(fields[name])
    except ValueError:
        raise ValueError(f"{name} is not a number: {fields[name][:40]!r}") from None


def _filter_of(request: web.Request) -> Filter:
    """Return the filter of the console from which a form came."""
    try:
        return Filter.of(URL(request.headers.get("Referer", "")).query)
    except ValueError:
        return Filter()
