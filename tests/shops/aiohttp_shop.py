"""A shop in aiohttp.web: `python -m tests.shops.aiohttp_shop`, with the environment that `kustom-hpp sandbox` prints.

Then open http://127.0.0.1:8080. SHOP_URL moves it; SHOP_CALLBACK_URL is where the API reaches it, if elsewhere; SHOP_DB is a
file for its orders, which are else forgotten when it stops.
"""

from collections.abc import Callable

from aiohttp import web
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.integrations.aiohttp_web import client_context, client_from, run_in_background, status_endpoint
from tests.shops.shop import Shop, log


def application(shop: Shop, make_client: Callable[[], hpp.HPPClient] = hpp.HPPClient.from_env) -> web.Application:
    """The shop as an app."""
    routes = web.RouteTableDef()

    @routes.get("/")
    async def front(_: web.Request) -> web.Response:
        return page(shop.page())

    @routes.post("/buy")
    async def buy(request: web.Request) -> web.Response:
        client, order = client_from(request), shop.orders.new()
        try:
            payment_page = await shop.payment_page(client, order)
        except hpp.HPPError as error:
            log.warning("order %s has no payment page: %s", order.id, error)
            return page(shop.sorry(), status=503)
        run_in_background(request, shop.follow(client, order.id))
        raise web.HTTPSeeOther(payment_page)

    @routes.get("/orders/{order}")
    async def thanks(request: web.Request) -> web.Response:
        order = shop.orders.find(request.match_info["order"])
        if order is None:
            raise web.HTTPNotFound
        return page(shop.page(order))

    def secret(request: web.Request) -> str | None:
        order = shop.orders.find(request.match_info["order"])
        return None if order is None else order.secret

    async def on_update(request: web.Request, update: StatusUpdate) -> None:
        await shop.look(client_from(request), request.match_info["order"], update.event_id)

    async def follow_up(app: web.Application) -> None:
        for order_id in shop.orders.unsettled():
            run_in_background(app, shop.follow(client_from(app), order_id))

    app = web.Application()
    app.cleanup_ctx.append(client_context(make_client))
    app.on_startup.append(follow_up)
    app.add_routes(routes)
    app.router.add_post("/status/{order}", status_endpoint(on_update, secret=secret))
    return app


def page(text: str, status: int = 200) -> web.Response:
    """An answer that is a page."""
    return web.Response(text=text, status=status, content_type="text/html")


def main() -> None:
    """Serve it until Ctrl-C."""
    shop = Shop.from_env()
    # No access log: it would write down the secrets in the URLs of the callbacks.
    web.run_app(application(shop), host=shop.host or URL(shop.url).host, port=URL(shop.url).port, access_log=None)


if __name__ == "__main__":
    main()
