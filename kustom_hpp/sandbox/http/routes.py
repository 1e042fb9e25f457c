"""The application of the sandbox: the API, order stand-ins and pages.

Each module has a function `add_routes(app, server)`. Pages need no credentials, are not in `record.requests`, and get no
faults.
"""

from collections.abc import Callable

from aiohttp import web

from kustom_hpp.sandbox import pages
from kustom_hpp.sandbox.endpoints import admin, openapi
from kustom_hpp.sandbox.endpoints.order_stand_ins import STAND_INS
from kustom_hpp.sandbox.endpoints.sessions import ENDPOINTS
from kustom_hpp.sandbox.http.server import Server

ROUTE_MODULES: tuple[Callable[[web.Application, Server], None], ...] = (
    openapi.add_routes,
    pages.add_routes,
    admin.add_routes,
)
"""The functions that add the pages."""


def application(server: Server) -> web.Application:
    """Return the application with all routes."""
    app = web.Application(middlewares=[server.middleware])
    for endpoint in (*ENDPOINTS, *STAND_INS):
        app.router.add_route(endpoint.method, endpoint.path, server.handler(endpoint))
    for add_routes in ROUTE_MODULES:
        add_routes(app, server)
    return app
