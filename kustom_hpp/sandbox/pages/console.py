"""The console at `/`: what the sandbox has seen, as it comes.

    GET /                          the page; `?q=` and `?status=` narrow it down
    GET /_sandbox/console/stream   the same as server-sent events, for the page's script

Whoever reaches the sandbox may look at the console, and act on the payment pages that it links to, as whoever has their
links. It shows no secret: queries of URLs are masked, tokens left out. The API key stands in its first steps only for a
browser on this machine, so that a sandbox that listens on the network does not hand it out.

Implementation note: the page works without its script, as a list that shows what was there when it was loaded. The script
gets pieces of the same templates, a few times a second at most and only what has changed, however much happens.
"""

import datetime as dt
import ipaddress
import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kustom_hpp.sandbox.http.server import Server
from kustom_hpp.sandbox.pages import console_views as log
from kustom_hpp.sandbox.pages.security_headers import headers
from kustom_hpp.sandbox.pages.site import Site
from kustom_hpp.sandbox.pages.templates import NoTemplatesError, Renderer
from kustom_hpp.sandbox.stored_session import Moment, StoredSession

if TYPE_CHECKING:
    from kustom_hpp.sandbox.http.connection import Link

STREAM_PATH = "/_sandbox/console/stream"
_PACE = 0.25
"""Seconds between two looks at what has changed."""
_PING = 60
"""Quiet looks after which a comment says that the stream is alive."""
_ORDER = "92d97f60-7a78-46a5-8f68-c56fe52dc4af"
_LOOPBACK_NAME = r"localhost|.+\.localhost"


class Console:
    """Its handlers."""

    def __init__(self, server: Server, site: Site) -> None:
        self._server = server
        self._state = server.state
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        """Register them."""
        app.router.add_get("/", self._index)
        app.router.add_get(STREAM_PATH, self._stream)

    async def _index(self, request: web.Request) -> web.Response:
        wanted = log.Filter.of(request.query)
        now = self._state.clock.now()
        sessions = log.newest_matching(self._newest_first(), wanted, now)
        return await self._site.page(
            "console.html",
            headers(),
            address=f"{request.scheme}://{request.host}",
            stream=STREAM_PATH,
            wanted=wanted,
            status_counts=log.status_counts(self._newest_first(), wanted, now),
            sessions=[log.session_view(session, now) for session in sessions],
            most=log.MAX_SHOWN,
            curl=_curl(request, self._server.credentials.api_key),
            **self._summary(),
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        try:
            renderer = await self._site.renderer()
        except NoTemplatesError as missing:
            return web.Response(status=501, text=f"{missing}\n", headers=dict(headers()))
        response = web.StreamResponse(headers={**dict(headers()), "Content-Type": "text/event-stream"})
        changed: set[str] = set()

        def heard(session: StoredSession, moment: Moment) -> None:  # noqa: ARG001 - a listener's shape
            changed.add(session.session_id)

        link: Link = request.protocol.link  # type: ignore[attr-defined]
        remove = self._state.listen(heard)
        try:
            await response.prepare(request)
            for event in self._events(request, renderer, changed):
                if event:
                    await response.write(event)
                await link.pause(_PACE)
        except ConnectionError:
            pass  # the browser has gone, or the sandbox closes
        finally:
            remove()
        return response

    def _events(self, request: web.Request, renderer: Renderer, changed: set[str]) -> Iterator[bytes]:
        """What to send at each look, without end; nothing where nothing has changed. It empties `changed`."""
        wanted, curl = log.Filter.of(request.query), _curl(request, self._server.credentials.api_key)
        sent, known, quiet = None, set[str](), 0
        while True:
            summary = renderer.page("_summary.html", **self._summary()).decode()
            quiet += 1
            if summary == sent and not changed:
                yield b": still here\n\n" if quiet % _PING == 0 else b""
                continue
            now, seen = self._state.clock.now(), changed.copy()
            changed.clear()
            sessions = log.newest_matching(self._newest_first(), wanted, now)
            order = [session.session_id for session in sessions]
            items = {
                session.session_id: renderer.page(
                    "_session.html", session=log.session_view(session, now), wanted=wanted
                ).decode()
                for session in sessions
                if session.session_id in seen or session.session_id not in known
            }
            sent, known, quiet = summary, set(order), 0
            counts = {tile.group: tile.count for tile in log.status_counts(self._newest_first(), wanted, now)}
            yield _event({"order": order, "items": items, "counts": counts, "summary": summary, "curl": curl})

    def _newest_first(self) -> Iterator[StoredSession]:
        return reversed(self._state.sessions.values())

    def _summary(self) -> dict[str, Any]:
        ahead = self._state.clock.now() - dt.timedelta(seconds=time.monotonic())
        requests = reversed(self._server.record.requests)
        return {
            "rules": log.rule_views(self._server.script.rules, self._server.quota),
            "failed_requests": log.failed_requests(requests, lambda at: ahead + dt.timedelta(seconds=at)),
        }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=True).encode() + b"\n\n"


def _curl(request: web.Request, api_key: str) -> str:
    """A line that creates a session, with the key where the browser is on this machine."""
    here = f"{request.scheme}://{request.host}"
    body = {
        "payment_session_url": f"{here}/checkout/v3/orders/{_ORDER}",
        "merchant_urls": {"success": "https://shop.example/thanks?sid={{session_id}}"},
    }
    authorization = shlex.quote(f"Authorization: Basic {api_key}")
    if not _is_local(request):
        authorization = '"Authorization: Basic $KUSTOM_HPP_API_KEY"'
    return " \\\n  ".join(
        [
            f"curl -sS {shlex.quote(here + '/hpp/v1/sessions')}",
            f"-H {authorization}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body))}",
        ]
    )


def _is_local(request: web.Request) -> bool:
    """True for a browser on this machine that knows where it is: not one whose name server was talked into it."""
    return _is_loopback(request.remote or "") and _is_loopback(request.url.host or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return re.fullmatch(_LOOPBACK_NAME, host) is not None
