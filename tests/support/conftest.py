import asyncio
from collections.abc import AsyncIterator

import pytest

from kustom_hpp.sandbox import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox that must leave nothing in the loop."""
    async with Sandbox() as opened:
        yield opened
    assert asyncio.all_tasks() == {asyncio.current_task()}
