"""Code for a first request: with curl, and with this library. No I/O."""

import json
import shlex

from yarl import URL

from kustom_hpp.config import ENV_VARS, is_loopback

_ORDER = "92d97f60-7a78-46a5-8f68-c56fe52dc4af"
_VARIABLE = ENV_VARS["api_key"]


def curl_snippet(base_url: str, api_key: str | None) -> str:
    """Return a command that creates a session, with or without the key."""
    body = {
        "payment_session_url": f"{base_url}/checkout/v3/orders/{_ORDER}",
        "merchant_urls": {"success": "https://shop.example/thanks?sid={{session_id}}"},
    }
    authorization = f'"Authorization: Basic ${_VARIABLE}"'
    if api_key is not None:
        authorization = shlex.quote(f"Authorization: Basic {api_key}")
    return " \\\n  ".join(
        [
            f"curl -sS {shlex.quote(f'{base_url}/hpp/v1/sessions')}",
            f"-H {authorization}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body))}",
        ]
    )


def python_snippet(base_url: str, api_key: str | None) -> str:
    """Return a program that creates a session, with or without the key."""
    url = URL(base_url)
    plain_http = ", insecure_http=True" if url.scheme == "http" and not is_loopback(url.host) else ""
    key, imports = (repr(api_key), "") if api_key is not None else (f'os.environ["{_VARIABLE}"]', "import os\n")
    return f"""\
import asyncio
{imports}import kustom_hpp as hpp

async def main():
    async with hpp.HPPClient({key}, base_url={base_url!r}{plain_http}) as client:
        order_url = client.order_url("{_ORDER}")
        request = hpp.CreateSessionRequest(payment_session_url=order_url)
        session = await client.create_session(request)
        print(session.redirect_url)

asyncio.run(main())
"""
