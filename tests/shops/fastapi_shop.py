"""A shop in FastAPI: `python -m tests.shops.fastapi_shop`, with the environment that `kustom-hpp sandbox` prints.

Then open http://127.0.0.1:8080. SHOP_URL moves it; SHOP_CALLBACK_URL is where the API reaches it, if elsewhere; SHOP_HOST
is what it listens on, such as 0.0.0.0 in a container; SHOP_DB is a file for its orders, which are else forgotten when it
stops.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.integrations.starlette import client_context, client_from, run_in_background, status_endpoint
from tests.shops.shop import Shop, log

Client = Annotated[hpp.HPPClient, Depends(client_from)]


def application(shop: Shop, make_client: Callable[[], hpp.HPPClient] = hpp.HPPClient.from_env) -> FastAPI:
    """The shop as an app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with client_context(make_client)(app) as state:
            for order_id in shop.orders.unsettled():
                run_in_background(state, shop.follow(client_from(state), order_id))
            yield state

    app = FastAPI(lifespan=lifespan)

    @app.get("/", response_class=HTMLResponse)
    async def front() -> str:
        return shop.page()

    @app.post("/buy")
    async def buy(request: Request, client: Client) -> Response:
        order = shop.orders.new()
        try:
            payment_page = await shop.payment_page(client, order)
        except hpp.HPPError as error:
            log.warning("order %s has no payment page: %s", order.id, error)
            return HTMLResponse(shop.sorry(), status_code=503)
        run_in_background(request, shop.follow(client, order.id))
        return RedirectResponse(payment_page, status_code=303)

    @app.get("/orders/{order_id}", response_class=HTMLResponse)
    async def thanks(order_id: str) -> str:
        order = shop.orders.find(order_id)
        if order is None:
            raise HTTPException(404)
        return shop.page(order)

    def secret(request: Request) -> str | None:
        order = shop.orders.find(request.path_params["order_id"])
        return None if order is None else order.secret

    async def on_update(request: Request, update: StatusUpdate) -> None:
        await shop.look(client_from(request), request.path_params["order_id"], update.event_id)

    app.add_route("/status/{order_id}", status_endpoint(on_update, secret=secret), methods=["POST"])
    return app


def main() -> None:
    """Serve it until Ctrl-C."""
    shop = Shop.from_env()
    # No access log: it would write down the secrets in the URLs of the callbacks.
    url = URL(shop.url)
    uvicorn.run(application(shop), host=shop.host or url.host or "127.0.0.1", port=url.port or 80, access_log=False)


if __name__ == "__main__":
    main()
