"""The README's compose file: its services in network namespaces, and a consumer who pays in a browser on the host."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.browser import compose, driver

README = compose.ROOT / "README.md"


@pytest.mark.slow
def test_the_readmes_compose_file(tmp_path: Path) -> None:
    if (reason := driver.missing() or compose.missing()) is not None:
        driver.skip_or_fail(reason)
    if (reason := compose.forbidden()) is not None:
        pytest.skip(reason)
    command = [sys.executable, "-m", compose.__name__, str(README), str(tmp_path)]
    done = subprocess.run(command, cwd=compose.ROOT, capture_output=True, text=True, timeout=55, check=False)
    logs = {log.name: log.read_text() for log in tmp_path.glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    result = json.loads(done.stdout)
    (session,) = result["record"]["sessions"]
    order_id = session["payment_session_url"].rpartition("/")[2]
    page, thanks = result["seen"]
    assert page.startswith("http://localhost:8000/eu/hpp/payments/")
    assert [entry["what"] for entry in session["timeline"] if entry["status"]] == ["created", "opened", "paid"]
    assert thanks == f"http://localhost:8080/orders/{order_id}"
    assert result["complaints"] == []
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        orders = database.execute("SELECT id, session_id, status FROM orders").fetchall()
        events = {event_id for (event_id,) in database.execute("SELECT event_id FROM events")}
    assert orders == [(order_id, session["session_id"], "COMPLETED")]
    callbacks = [(call["url"].partition("?")[0], call["status"]) for call in result["record"]["callbacks"]]
    assert callbacks == [(f"http://shop:8080/status/{order_id}", 204)] * 2
    # The event of the payment settled the order; the one before did too if the shop read the session late.
    assert events
    assert events <= {call["event_id"] for call in result["record"]["callbacks"]}
