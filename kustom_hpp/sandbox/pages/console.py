"""The console at `/`: sessions and failed requests as they happen.

    GET  /                          the page; `?q=` and `?status=` filter its rows
    GET  /faults                    the list of all faults
    GET  /_sandbox/console/stream   changes of the page as server-sent events, for its script
    POST /_sandbox/console/sessions/{session_id}/{action}   pay, decline, error, back, cancel, expire, repeat_callback
    POST /_sandbox/console/faults                           fault, operation, nth, times, probability
    POST /_sandbox/console/faults/clear
    POST /_sandbox/console/faults/{number}/remove
    POST /_sandbox/console/rate_limit                       rate, burst; without a rate there is no limit
    POST /_sandbox/console/latency                          low, high; without a low there is no latency

A POST takes the fields of a form and redirects to the console with 303. A failure is the console with a notice: 400 for a
wrong value, 401 without credentials from another machine, 403 for a form of another site, 404 for an unknown session or rule.

Everyone who reaches the sandbox may look at the console and use the payment pages. The key and the actions are for a browser
on the sandbox's own machine, or for one that sends the sandbox's credentials. An action must also come from the console.

Implementation note: the page works without its script; it then shows what had happened when it was loaded. The script
receives parts of the same templates, only those that changed, at most a few times a second.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web
from yarl import URL

from kustom_hpp.config import is_loopback
from kustom_hpp.sandbox.faults import FAULT_GROUPS, FAULTS
from kustom_hpp.sandbox.faults.rules import ANY, OPERATIONS
from kustom_hpp.sandbox.http.raw_response import CHALLENGE
from kustom_hpp.sandbox.http.request_context import Credentials
from kustom_hpp.sandbox.http.server import Handler, Server, connection_of, respond_and_drain
from kustom_hpp.sandbox.limits import MerchantRateLimit, bucket_of, latency_of
from kustom_hpp.sandbox.pages import console_views as views
from kustom_hpp.sandbox.pages.security_headers import headers
from kustom_hpp.sandbox.pages.site import Site
from kustom_hpp.sandbox.pages.snippets import curl_snippet, python_snippet
from kustom_hpp.sandbox.stored_session import Action, StoredSession, TimelineEntry

ROOT = "/_sandbox/console"
STREAM_PATH = f"{ROOT}/stream"
_INTERVAL = 0.25
"""Seconds between two looks for changes."""
_KEEPALIVE = 60
"""Looks without a change after which a comment keeps the stream alive."""
_MAX_FORM = 10_000

Fields = Mapping[str, str]
"""The parts of the path and the fields of the form."""


class Console:
    """Handlers of the console's page, of its stream and of its forms."""

    def __init__(self, server: Server, site: Site) -> None:
        self._server = server
        self._state = server.state
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        app.router.add_get("/", self._index)
        app.router.add_get("/faults", self._faults)
        app.router.add_get(STREAM_PATH, self._stream)
        rules = self._server.rules
        actions: dict[str, Callable[[Fields], None]] = {
            "/sessions/{session_id}/{action}": self._act,
            "/faults": self._add_fault,
            "/faults/clear": lambda _: rules.clear(),
            "/faults/{number}/remove": lambda fields: rules.remove(rules.find(fields["number"])),
            "/rate_limit": self._set_rate_limit,
            "/latency": self._set_latency,
        }
        for path, action in actions.items():
            app.router.add_post(ROOT + path, self._handler(action))

    async def _index(self, request: web.Request) -> web.Response:
        return await self._page(request, views.Filter.of(request.query))

    async def _page(
        self, request: web.Request, wanted: views.Filter, *, notice: str = "", status: int = 200
    ) -> web.Response:
        """Return the page, with a notice if an action failed."""
        now = self._state.clock.now()
        rows = list(self._rows())
        credentials = self._server.credentials
        key = credentials.api_key if _is_trusted(request, credentials) else None
        address = f"{request.scheme}://{request.host}"
        return await self._site.page(
            "console.html",
            headers(),
            status=status,
            notice=notice,
            address=address,
            username=credentials.username,
            key=key,
            curl=curl_snippet(address, key),
            python=python_snippet(address, key),
            stream=STREAM_PATH,
            wanted=wanted,
            counts=views.status_counts(rows, wanted, now),
            rows=[self._view(row, now) for row in views.newest_matching(rows, wanted, now)],
            total=len(rows),
            max_rows=views.MAX_ROWS,
            fault_names=list(FAULTS),
            operations=[*OPERATIONS, ANY],
            **self._settings(),
        )

    async def _faults(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return await self._site.page("faults.html", headers(), groups=FAULT_GROUPS)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        wanted, connection = views.Filter.of(request.query), connection_of(request)
        changes = 0

        def on_event(session: StoredSession, entry: TimelineEntry) -> None:  # noqa: ARG001 - a listener's signature
            nonlocal changes
            changes += 1

        remove = self._state.listen(on_event)
        response = web.StreamResponse(headers={**dict(headers()), "Content-Type": "text/event-stream"})
        versions: dict[str, views.Version] = {}
        sent_rules, seen, quiet = "", None, 0
        try:
            while True:
                rules = (await self._site.render("_rules.html", **self._settings())).decode()
                if not response.prepared:
                    await response.prepare(request)
                current = changes, rules, self._signature()
                if current != seen:
                    seen, quiet = current, 0
                    event, versions = await self._event(wanted, versions)
                    if rules != sent_rules:
                        event["rules"] = sent_rules = rules
                    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                elif (quiet := quiet + 1) % _KEEPALIVE == 0:
                    await response.write(b": still here\n\n")
                await connection.pause(_INTERVAL)
        except ConnectionError:
            return response  # the browser has gone, or the sandbox closes
        finally:
            remove()

    def _signature(self) -> tuple[object, ...]:
        """Return what changes with a row, apart from a session's events."""
        ahead = self._state.clock.now() - dt.datetime.now(dt.UTC)
        requests = self._server.record.counts.requests, len(self._server.handlers)
        return requests, round(ahead.total_seconds()), self._settings()["limits"]

    async def _event(
        self, wanted: views.Filter, sent: dict[str, views.Version]
    ) -> tuple[dict[str, Any], dict[str, views.Version]]:
        """Return an event with the changed rows, and the versions of all rows."""
        now, rows = self._state.clock.now(), list(self._rows())
        shown = {views.key_of(row): row for row in views.newest_matching(rows, wanted, now)}
        versions = {key: views.version_of(row, now) for key, row in shown.items()}
        event = {
            "order": list(shown),
            "items": {
                key: (await self._site.render("_row.html", row=self._view(row, now), wanted=wanted)).decode()
                for key, row in shown.items()
                if sent.get(key) != versions[key]
            },
            "counts": {count["group"]: count["count"] for count in views.status_counts(rows, wanted, now)},
            "limits": self._settings()["limits"],
        }
        return event, versions

    def _rows(self) -> Iterator[views.Row]:
        """Yield sessions and failed requests, newest first."""
        yield from reversed(self._state.sessions.values())
        yield from (seen for seen in reversed(self._server.record.requests) if views.is_failed(seen))

    def _view(self, row: views.Row, now: dt.datetime) -> dict[str, Any]:
        if isinstance(row, StoredSession):
            return views.session_view(row, now)
        return views.request_view(row, self._state.sessions.get(row.created or ""))

    def _settings(self) -> dict[str, Any]:
        """Return the faults, the rate limit and the latency."""
        limits = views.limits_text(self._server.rate_limit, self._server.latency)
        return {"rules": views.rule_views(self._server.rules.rules), "limits": limits}

    def _handler(self, action: Callable[[Fields], None]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await respond_and_drain(request, await self._respond(request, action))

        return handle

    async def _respond(self, request: web.Request, action: Callable[[Fields], None]) -> web.Response:
        if not _is_same_origin(request):
            return await self._refuse(request, 403, "Another site sent this form. Use the form on this page.")
        if not _is_trusted(request, self._server.credentials):
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
        return await self._page(request, _filter_of(request), notice=notice, status=status)

    def _act(self, fields: Fields) -> None:
        session = self._state.sessions.get(fields["session_id"])
        if session is None:
            raise LookupError("the sandbox has no such session")
        if fields["action"] == "expire":
            self._state.expire(session.payment_session_url)
        elif fields["action"] == "repeat_callback":
            self._server.callbacks.repeat(session)
        elif fields["action"] in [*Action]:
            self._state.act(session, Action(fields["action"]))
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


def _filter_of(request: web.Request) -> views.Filter:
    """Return the filter of the console from which a form came."""
    try:
        return views.Filter.of(URL(request.headers.get("Referer", "")).query)
    except ValueError:
        return views.Filter()


def _is_trusted(request: web.Request, credentials: Credentials) -> bool:
    """Return True for a request from this machine or with the credentials.

    A browser on this machine must also use one of the machine's own names: a foreign name that resolves to it may belong to
    a page of an attacker (DNS rebinding).
    """
    local = is_loopback(request.remote or "") and _is_own_name(request.url.host or "")
    return local or credentials.matches(request.headers.get("Authorization"))


def _is_same_origin(request: web.Request) -> bool:
    """Return True if a page of this sandbox sent the request.

    Source: www.w3.org/TR/fetch-metadata, RFC 6454.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    # A browser sends no Sec-Fetch-Site to a plain http URL of another machine, but it always sends Origin with a POST.
    return request.headers.get("Origin") == f"{request.scheme}://{request.host}"


def _is_own_name(host: str) -> bool:
    return is_loopback(host) or host.endswith(".localhost")
