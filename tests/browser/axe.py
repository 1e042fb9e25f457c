"""axe-core, which finds what keeps people out of a page. At a pinned version; the file is not ours, so it is not here.

AXE_CORE in the environment leads to axe.min.js. To have it:

    pip download --no-deps axe-playwright-python==0.1.8 && python -m zipfile -e axe_playwright_python-0.1.8-*.whl .
    export AXE_CORE=$PWD/axe_playwright_python/axe.min.js
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from tests.browser.driver import Browser

VERSION = "4.12.1"
SHA256 = "84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc"
_WHERE = "AXE_CORE"
_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then((found) => done(found), (error) => done(String(error)));
"""


def missing() -> str | None:
    """What is missing for it; None where nothing is."""
    path = os.environ.get(_WHERE)
    if not path:
        return f"{_WHERE} leads to no axe.min.js {VERSION}: see tests/browser/axe.py"
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != SHA256:
        return f"{_WHERE} leads to another file than the axe.min.js of version {VERSION}"
    return None


async def violations(browser: Browser) -> list[str]:
    """Every rule that the page breaks, with how bad it is and where."""
    # Comes in from outside the page, whose policy lets no script in.
    await browser.script(Path(os.environ[_WHERE]).read_text(encoding="utf-8"))
    assert await browser.script("return axe.version") == VERSION
    found: Any = await browser.do(browser.driver.execute_async_script, _RUN)
    assert isinstance(found, dict), found
    return [
        f"{broken['impact']}: {broken['id']}: {node['html']} {node['failureSummary']}"
        for broken in found["violations"]
        for node in broken["nodes"]
    ]
