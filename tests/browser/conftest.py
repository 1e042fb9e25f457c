from collections.abc import AsyncIterator, Iterator

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.browser import driver
from tests.browser.driver import Browser
from tests.browser.shop import Shop


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[driver.webdriver.Chrome]:
    """One browser for all tests; use `browser`, which is reset for each."""
    if (reason := driver.missing()) is not None:
        driver.skip_or_fail(reason)
    started = driver.start(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
async def browser(chromium: driver.webdriver.Chrome) -> AsyncIterator[Browser]:
    """A browser whose console must hold no complaint at the end."""
    opened = Browser(chromium)
    await opened.fresh()
    yield opened
    assert await opened.complaints() == []
    await opened.open("about:blank")  # no stream of a sandbox that closes


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as opened:
        yield opened


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with Shop() as opened:
        yield opened
