"""All that the sandbox serves, put together: the API, and the rooms with pages beside it.

A room is a module with a function `add_routes(app, server)`. What stands outside of /hpp/ is no API: nobody needs
credentials for it, it is not in `record.requests`, and no scripted fault meets it.
"""

from collections.abc import Callable

from aiohttp import web

from kustom_hpp.sandbox import pages
from kustom_hpp.sandbox.endpoints import admin, openapi, order_stand_ins
from kustom_hpp.sandbox.endpoints import sessions as api
from kustom_hpp.sandbox.http.server import Server

ROUTE_MODULES: tuple[Callable[[web.Application, Server], None], ...] = (
    openapi.add_routes,
    pages.add_routes,
    admin.add_routes,
)
"""The `add_routes` of each room."""


def application(server: Server) -> web.Application:
    """The application with everything in it."""
    app = server.app()
    for add_routes in (api.add_routes, order_stand_ins.add_routes, *ROUTE_MODULES):
        add_routes(app, server)
    return app
