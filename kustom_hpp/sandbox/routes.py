"""All that the sandbox serves, put together: the API, and the rooms with pages beside it.

A room is a module with a function `add_routes(app, server)`. What it serves is no API: nobody needs credentials for it, it
is not in `record.requests`, and no scripted fault meets it.
"""

from collections.abc import Callable

from aiohttp import web

from kustom_hpp.sandbox.server import Server

ROOMS: tuple[Callable[[web.Application, Server], None], ...] = ()
"""The `add_routes` of each room."""


def application(server: Server) -> web.Application:
    """The API's application with the rooms' routes in it."""
    app = server.app()
    for add_routes in ROOMS:
        add_routes(app, server)
    return app
