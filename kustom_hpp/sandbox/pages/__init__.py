"""Pages for a browser: the payment page and its QR code, the console."""

from aiohttp import web

from kustom_hpp.sandbox.http.server import Server
from kustom_hpp.sandbox.pages.console import Console
from kustom_hpp.sandbox.pages.payment_page import PaymentPage
from kustom_hpp.sandbox.pages.site import Site


def add_routes(app: web.Application, server: Server) -> None:
    """Register every page."""
    site = Site()
    site.add_routes(app)
    PaymentPage(server, site).add_routes(app)
    Console(server, site).add_routes(app)
