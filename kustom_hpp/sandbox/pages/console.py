"""The console at `/`: sessions and failed requests as they happen.

    GET  /                          the page; `?q=` and `?status=` filter its rows
    GET  /faults                    the list of all faults
    GET  /_sandbox/console/stream   changes of the page as server-sent events, for its script
    POST /_sandbox/console/...      actions; see `console_actions`

Implementation note: the page works without its script; it then shows what had happened when it was loaded. The script
receives parts of the same templates, only those that changed, at most a few times a second.
"""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.faults import FAULT_GROUPS, FAULTS
from kustom_hpp.sandbox.faults.rules import ANY, OPERATIONS
from kustom_hpp.sandbox.http.server import Server, connection_of
from kustom_hpp.sandbox.pages import console_views as views
from kustom_hpp.sandbox.pages.access import is_trusted
from kustom_hpp.sandbox.pages.security_headers import headers
from kustom_hpp.sandbox.pages.site import Site
from kustom_hpp.sandbox.pages.snippets import curl_snippet, python_snippet
from kustom_hpp.sandbox.stored_session import StoredSession, TimelineEntry

STREAM_PATH = "/_sandbox/console/stream"
_INTERVAL = 0.25
"""Seconds between two looks for changes."""
_KEEPALIVE = 60
"""Looks without a change after which a comment keeps the stream alive."""


class Console:
    """Handlers of the console's page and of its stream."""

    def __init__(self, server: Server, site: Site) -> None:
        self._server = server
        self._state = server.state
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        app.router.add_get("/", self.index)
        app.router.add_get("/faults", self._faults)
        app.router.add_get(STREAM_PATH, self._stream)

    async def index(self, request: web.Request) -> web.Response:
        """Serve the page."""
        return await self.page(request, views.Filter.of(request.query))

    async def page(
        self, request: web.Request, wanted: views.Filter, *, notice: str = "", status: int = 200
    ) -> web.Response:
        """Return the page, with a notice if an action failed."""
        now = self._state.clock.now()
        rows = list(self._rows())
        credentials = self._server.credentials
        key = credentials.api_key if is_trusted(request, credentials) else None
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
