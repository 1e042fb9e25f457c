"""The QR code of a session's page: a PNG at `qr_code_url`, public like the page itself.

The documents say no more than that every browser displays it. Chosen here: PNG, as a mail or a printer that shows it may
know nothing else; 404 for a session that is unknown or expired.
"""

import io

from aiohttp import web

from kustom_hpp.sandbox.http.server import Server

_PATH = "/eu/hpp/payments/{session_id}/qr"
_SCALE = 8
"""Pixels of one module of the code."""


def add_routes(app: web.Application, server: Server) -> None:
    """Serve the codes."""

    async def code(request: web.Request) -> web.Response:
        session = server.state.find(request.match_info["session_id"])
        if session is None:
            return web.Response(status=404, text="There is no such session, or it has expired.\n")
        try:
            image = _png(session.wire(server.base_url_for(request))["redirect_url"])
        except ImportError:
            sentence = "QR codes need the library segno: install the extra with pip install 'kustom_hpp[sandbox]'\n"
            return web.Response(status=501, text=sentence)
        return web.Response(body=image, content_type="image/png", headers={"X-Content-Type-Options": "nosniff"})

    app.router.add_get(_PATH, code)


def _png(text: str) -> bytes:
    import segno

    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=_SCALE)
    return image.getvalue()
