"""What the tests of the pages share: sessions made over the wire, and a browser's requests without a browser."""

import html.parser
import json
from typing import Any

import aiohttp
from attrs import define, field, frozen
from multidict import CIMultiDictProxy

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import ORDER, PATH

KP = "https://api.playground.klarna.com/payments/v1/sessions/0b1d9815-165e-42e2-8867-35bc03789e00"
URLS = {name: f"https://shop.example/{name}?sid={{{{session_id}}}}" for name in ("success", "failure", "error")}
HOSTILE = (
    "\"><script>document.title='ran'</script><img src=x onerror=alert(1)>'`{{7*7}}{% raw %}"
    "\u202eRTL \u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f469\u200d\U0001f467 &amp; </title></style>"
)


async def create(
    sandbox: Sandbox, url: str = ORDER, *, merchant_urls: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Create a session as any client does, and return the response."""
    body: dict[str, Any] = {"payment_session_url": url}
    body |= {"merchant_urls": merchant_urls} if merchant_urls is not None else {}
    body |= {"options": options} if options else {}
    headers = {"Authorization": f"Basic {sandbox.api_key}", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(sandbox.base_url + PATH, data=json.dumps(body), headers=headers) as response,
    ):
        made = await response.json()
        assert response.status == 201, made
        return made


@frozen
class Got:
    """A response to a browser."""

    status: int
    headers: "CIMultiDictProxy[str]"
    text: str

    @property
    def policy(self) -> dict[str, list[str]]:
        """The Content-Security-Policy, by directive."""
        parts = (part.split() for part in self.headers["Content-Security-Policy"].split(";"))
        return {name: values for name, *values in parts}

    @property
    def page(self) -> "Page":
        """What stands on the page."""
        page = Page()
        page.feed(self.text)
        page.close()
        return page


async def browse(url: str, method: str = "GET", **more: Any) -> Got:
    """Send a request as a browser does, but follow no redirect."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, allow_redirects=False, **more) as response,
    ):
        return Got(response.status, response.headers, await response.text())


@define(eq=False, repr=False)
class Page(html.parser.HTMLParser):
    """A page, parsed: its elements, and its texts without their markup."""

    elements: list[tuple[str, dict[str, str | None]]] = field(factory=list)
    texts: list[str] = field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def forms(self) -> list[str | None]:
        """Where its forms go."""
        return [form["action"] for form in self.all("form")]
