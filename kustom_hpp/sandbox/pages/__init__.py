"""What people see in a browser: the hosted payment page at `redirect_url`, and the console at `/`."""

from aiohttp import web

from kustom_hpp.sandbox.pages.console import Console
from kustom_hpp.sandbox.pages.hosted import HostedPage
from kustom_hpp.sandbox.pages.site import Site
from kustom_hpp.sandbox.server import Server


def add_routes(app: web.Application, server: Server) -> None:
    """Register every page."""
    site = Site()
    site.add_routes(app)
    HostedPage(server, site).add_routes(app)
    Console(server, site).add_routes(app)
