"""A Celery worker with one client for all its processes."""

import os

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

import kustom_hpp as hpp

app = Celery("shop", broker="filesystem://", backend=f"file://{os.environ['SHOP_FOLDER']}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{os.environ['SHOP_FOLDER']}/queue",
    "data_folder_out": f"{os.environ['SHOP_FOLDER']}/queue",
    "control_folder": f"{os.environ['SHOP_FOLDER']}/control",
}
client = hpp.SyncHPPClient.from_env()


@app.task
def create(order_id: str) -> dict[str, str | None]:
    """Create a session and say how it went."""
    request = hpp.CreateSessionRequest(payment_session_url=client.order_url(order_id))
    try:
        session = client.create_session(request, deadline=10)
    except hpp.HPPError as error:
        return {"error": type(error).__name__, "delivery": error.delivery}
    return {"session_id": session.session_id}


@app.task
def create_in_time(order_id: str) -> str:
    """Create a session, and say what is known of it when the task's soft time limit ends the wait."""
    try:
        client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url(order_id)))
    except SoftTimeLimitExceeded as error:
        return str(error.delivery)  # type: ignore[attr-defined] # the client adds it
    return "in time"
