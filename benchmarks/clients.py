"""The clients that are measured: ours, and raw aiohttp, which is the measure."""

import json
from collections.abc import Sequence

import aiohttp
from yarl import URL

from benchmarks import payloads, server
from benchmarks.measure import CheckFailedError, Client
from kustom_hpp import HPPClient


class Ours:
    """`HPPClient.create_session` with its default settings: distinct requests in, a Session out."""

    def __init__(self, url: str, name: str = "ours") -> None:
        self.name = name
        self._client = HPPClient(payloads.API_KEY, base_url=f"{url}/{name}")
        self._requests = [payloads.request(index) for index in range(payloads.DISTINCT)]

    async def send(self, index: int) -> bool:
        """One session."""
        session = await self._client.create_session(self._requests[index % payloads.DISTINCT])
        return session.session_id == payloads.SESSION_ID and session.expires_at is not None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class RawAiohttp:
    """Plain aiohttp: bytes in, bytes out, the response not parsed."""

    def __init__(self, url: str, headers: dict[str, str], name: str = "raw") -> None:
        self.name = name
        self._headers = headers
        self._url = URL(f"{url}/{name}{payloads.CREATE_PATH}")
        self._bodies = [payloads.body(index) for index in range(payloads.DISTINCT)]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def send(self, index: int) -> bool:
        """One POST."""
        data = self._bodies[index % payloads.DISTINCT]
        async with self._session.post(self._url, data=data, headers=self._headers) as response:
            body = await response.read()
        return response.status == 201 and body == payloads.RESPONSE_BODY

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


async def headers_of(client: Client, url: str) -> dict[str, str]:
    """The headers that a client sends, as the server saw them, but for those that every client computes itself."""
    await client.send(0)
    seen, _ = server.last_request(url, client.name)
    return {name: value for name, value in seen.items() if name not in ("Host", "Content-Length")}


async def check_same(clients: Sequence[Client], url: str, *, headers: bool = True) -> None:
    """Send one request with each client, and compare what the server got.

    Args:
        clients: who is compared.
        url: of the server.
        headers: whether their names, order and values must be the same too.

    Raises:
        CheckFailedError: they do not send the same.

    """
    index = payloads.DISTINCT - 1
    first: dict[str, str] | None = None
    for client in clients:
        if not await client.send(index):
            raise CheckFailedError(f"{client.name}: its response is not the server's")
        seen, body = server.last_request(url, client.name)
        if json.loads(body) != payloads.plain(index):
            raise CheckFailedError(f"{client.name}: its body is not the one that all send")
        first = first or seen
        if headers and list(seen.items()) != list(first.items()):
            raise CheckFailedError(f"{client.name}: its headers are not those of {clients[0].name}")
