"""A Flask shop with one client for all its threads and processes."""

from flask import Flask

import kustom_hpp as hpp

app = Flask(__name__)
client = hpp.SyncHPPClient.from_env()


@app.post("/pay/<order_id>")
def pay(order_id: str) -> tuple[dict[str, str | None], int]:
    """Create a session and say how it went."""
    request = hpp.CreateSessionRequest(payment_session_url=client.order_url(order_id))
    try:
        session = client.create_session(request, deadline=10)
    except hpp.HPPError as error:
        return {"error": type(error).__name__, "delivery": error.delivery}, 502
    return {"session_id": session.session_id}, 200
