"""The QR code of a session's page: a public PNG at `qr_code_url`.

The documents only say that every browser displays it. Chosen here: PNG, because mail and print also show it; 404 if the
session is unknown or expired.
"""

import io

from aiohttp import web

from kustom_hpp.sandbox.http.server import Server

_PATH = "/eu/hpp/payments/{session_id}/qr"
_SCALE = 8
"""Pixels per module of the code."""


def add_routes(app: web.Application, server: Server) -> None:
    """Serve the codes."""

    async def code(request: web.Request) -> web.Response:
        session = server.state.find(request.match_info["session_id"])
        if session is None:
            return web.Response(status=404, text="The session does not exist or has expired.\n")
        try:
            image = _png(session.created_json(server.base_url_for(request))["redirect_url"])
        except ImportError:
            text = "QR codes need segno: pip install 'kustom_hpp[sandbox]'\n"
            return web.Response(status=501, text=text)
        return web.Response(body=image, content_type="image/png", headers={"X-Content-Type-Options": "nosniff"})

    app.router.add_get(_PATH, code)


def _png(text: str) -> bytes:
    import segno

    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=_SCALE)
    return image.getvalue()
