"""A sandbox that listens on every address of the machine: its answers name it as the client called it."""

import json
import re

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import PATH, Reply, ask, request
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
