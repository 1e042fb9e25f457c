"""A sandbox that listens on every address of the machine: its answers name it as the client called it."""

import json
import re

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import ORDER, PATH, Reply, ask, request
from tests.support.faults import find_fault

NAME = "pay.test:8000"


async def create(sandbox: Sandbox, name: str = NAME) -> Reply:
    return await ask(sandbox, re.sub(rb"Host: [^\r]*", b"Host: " + name.encode(), request(sandbox)))


async def get(sandbox: Sandbox, path: str) -> Reply:
    head = f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Basic {sandbox.api_key}\r\n\r\n"
    return await ask(sandbox, head.encode())


def origins(text: str) -> set[str]:
    return set(re.findall(r"https?://[^/\"]*", text))


@pytest.mark.parametrize(("host", "here"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
async def test_urls_begin_as_the_client_called_it(host: str, here: str) -> None:
    async with Sandbox(host) as sandbox:
        assert re.fullmatch(rf"http://{re.escape(here)}:\d+", sandbox.base_url)
        reply = await create(sandbox)
        assert (reply.status, origins(reply.body.decode())) == (201, {f"http://{NAME}"})
        assert sandbox.record.created[0].redirect_url == reply.json["redirect_url"]
        token = f"{PATH}/{reply.json['session_id']}/distribution-module/token"
        head = f"POST {token} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Basic {sandbox.api_key}\r\nContent-Length: 0\r\n\r\n"
        assert origins((await ask(sandbox, head.encode())).body.decode()) == {f"http://{NAME}"}
        assert (await get(sandbox, "/openapi.json")).json["servers"] == [{"url": f"http://{NAME}"}]
        assert (await get(sandbox, f"/eu/hpp/payments/{reply.json['session_id']}/qr")).status == 200
        sandbox.fault(["new_fields", find_fault("redirect_307_same")])
        assert origins((await create(sandbox)).body.decode()) == {f"http://{NAME}"}
        assert (await create(sandbox)).header("Location") == f"http://{NAME}{PATH}"


@pytest.mark.parametrize("name", ['"}{', "(token)", "%(token)s%", "a" * 5000])
async def test_a_name_cannot_break_the_answer(name: str) -> None:
    async with Sandbox("0.0.0.0") as sandbox:
        reply = await create(sandbox, name)
        if reply.status == 201:
            assert json.loads(reply.body)["session_id"] == sandbox.record.created[0].session_id
        assert (await create(sandbox)).status == 201


async def test_one_that_listens_at_one_address_has_one_name(sandbox: Sandbox) -> None:
    assert origins((await create(sandbox)).body.decode()) == {sandbox.base_url}


PRIVATE = ["http://shop:8080/status", "http://my_shop/x", "http://10.1.2.3/x", "http://shop.internal/x"]


def with_callback(url: str) -> bytes:
    return json.dumps({"payment_session_url": ORDER, "merchant_urls": {"status_update": url}}).encode()


@pytest.mark.parametrize("url", PRIVATE)
async def test_callbacks_to_private_hosts_are_for_a_sandbox_that_is_exposed(sandbox: Sandbox, url: str) -> None:
    refused = await ask(sandbox, request(sandbox, body=with_callback(url)))
    assert (refused.status, refused.json["error_code"]) == (400, "BAD_VALUE")
    assert refused.json["error_messages"][0].startswith("merchant_urls.status_update: is http to a private host")
    async with Sandbox("0.0.0.0") as exposed:
        assert (await ask(exposed, request(exposed, body=with_callback(url)))).status == 201


@pytest.mark.parametrize("url", ["http://shop.example/x", "http://8.8.8.8/x", "http://user@shop.example/x"])
async def test_callbacks_over_plain_http_go_nowhere_else(url: str) -> None:
    async with Sandbox("0.0.0.0") as exposed:
        assert (await ask(exposed, request(exposed, body=with_callback(url)))).status == 400


@pytest.mark.parametrize("name", ["success", "cancel", "back", "failure", "error"])
async def test_app_links_are_accepted(sandbox: Sandbox, name: str) -> None:
    body = json.dumps({"payment_session_url": ORDER, "merchant_urls": {name: "myshop://done?hpp={{session_id}}"}})
    reply = await ask(sandbox, request(sandbox, body=body.encode()))
    assert reply.status == 201
    action = {"success": "pay", "cancel": "cancel", "back": "back", "failure": "decline", "error": "error"}[name]
    assert sandbox.act(reply.json["session_id"], action) == f"myshop://done?hpp={reply.json['session_id']}"
