"""The routes of the hosted payment page.

    GET  /eu/hpp/payments/{page_id}            the page; opens the session
    GET  /eu/hpp/payments/{page_id}/cancel     asks for confirmation
    GET  /eu/hpp/payments/{page_id}/result     the generic result page
    POST /eu/hpp/payments/{page_id}/{action}   pay, decline, back, cancel, error
    GET  /eu/hpp/payments/{session_id}/qr      the QR code of the page

A POST redirects with 303 to the merchant's URL, or to the generic page. Only a POST changes a session, except that a GET of
the page opens it. The forms carry no token against forgery, because a forged one gains nothing.

About the QR code the documents only say that every browser displays it. Chosen here: PNG, because mail and print also show it;
404 if the session is unknown or expired.
"""

import io
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.http.server import Server, respond_and_drain
from kustom_hpp.sandbox.pages import payment_views as views
from kustom_hpp.sandbox.pages.security_headers import headers, location
from kustom_hpp.sandbox.pages.site import Site
from kustom_hpp.sandbox.sample_orders import Order
from kustom_hpp.sandbox.stored_session import Action, SessionClosedError, StoredSession

_PATH = "/eu/hpp/payments/{page_id}"
_PIXELS = 8
"""Pixels of a module of the QR code."""
_URLS = ("success", "cancel", "back", "failure", "error")


class PaymentPage:
    """Handlers of the payment page."""

    def __init__(self, server: Server, site: Site) -> None:
        self._server = server
        self._state = server.state
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        app.router.add_get(_PATH, self._page)
        app.router.add_get(f"{_PATH}/cancel", self._confirm_cancel)
        app.router.add_get(f"{_PATH}/result", self._result)
        app.router.add_get("/eu/hpp/payments/{session_id}/qr", self._qr)
        app.router.add_post(f"{_PATH}/{{action:pay|decline|back|cancel|error}}", self._act)

    async def _page(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None or not session.is_open(self._state.clock.now()):
            return await self._ending(session)
        # Rendered from the status before opening, so that the page reports an earlier attempt that failed.
        orders, url = self._state.orders, session.payment_session_url
        page = views.page(session, orders.get(url), is_sample=not orders.has(url))
        if request.method == "GET":
            self._state.act(session, Action.OPEN)
        return await self._render("payment.html", session, page=page)

    async def _confirm_cancel(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None or not session.is_open(self._state.clock.now()):
            return await self._ending(session)
        if session.secondary_action is not Action.CANCEL:
            return _redirect(session.page_url(""))
        return await self._render("cancel.html", session, path=session.page_url(""))

    async def _result(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is not None and not views.has_ending(session, self._state.clock.now()):
            return _redirect(session.page_url(""))
        return await self._ending(session, just_now=True)

    async def _qr(self, request: web.Request) -> web.Response:
        session = self._state.find(request.match_info["session_id"])
        if session is None:
            return web.Response(status=404, text="The session does not exist or has expired.\n")
        try:
            import segno
        except ImportError:
            return web.Response(status=501, text="QR codes need segno: pip install 'kustom_hpp[sandbox]'\n")
        image = io.BytesIO()
        code = segno.make_qr(session.page_url(self._server.base_url_for(request)), error="m")
        code.save(image, kind="png", scale=_PIXELS)
        headers = {"X-Content-Type-Options": "nosniff"}
        return web.Response(body=image.getvalue(), content_type="image/png", headers=headers)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is None:
            return await respond_and_drain(request, await self._ending(None))
        page = session.page_url("")
        try:
            url = self._state.act(session, Action(request.match_info["action"]))
        except SessionClosedError:
            return await respond_and_drain(request, _redirect(page))
        return await respond_and_drain(request, _redirect(f"{page}/result" if url is None else location(url)))

    def _session(self, request: web.Request) -> StoredSession | None:
        return self._state.by_page(request.match_info["page_id"])

    async def _ending(self, session: StoredSession | None, *, just_now: bool = False) -> web.Response:
        shown = views.ending(session, self._order(session), self._state.clock.now(), just_now=just_now)
        return await self._render("ending.html", session, status=shown["http_status"], ending=shown)

    def _order(self, session: StoredSession | None) -> Order | None:
        return None if session is None else self._state.orders.get(session.payment_session_url)

    async def _render(
        self, template: str, session: StoredSession | None, *, status: int = 200, **values: Any
    ) -> web.Response:
        frame = views.frame(session, self._order(session))
        urls = [] if session is None else [session.merchant_url(name) for name in _URLS]
        policy = headers(images=frame["images"], forms_to=filter(None, urls))
        return await self._site.page(template, policy, status=status, frame=frame, **values)


def _redirect(url: str) -> web.Response:
    """Redirect the browser; the URL goes out unchanged."""
    return web.Response(
        status=303, headers={"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
