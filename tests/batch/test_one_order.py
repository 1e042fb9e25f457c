"""One KCO order in two spellings, in a batch: one session, by the sandbox's record."""

import json
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch
from kustom_hpp.batch import BatchItem, OutcomeState
from kustom_hpp.sandbox import Sandbox
from tests.support.memory_journal import MemoryJournal
from tests.support.orders import ORDER_ID, SPELLINGS


@pytest.fixture
async def sandbox():
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(params=SPELLINGS.values(), ids=list(SPELLINGS))
def urls(request, sandbox) -> tuple[str, str]:
    """The order's URL in the usual spelling and in another one."""
    url = f"{base_url(sandbox)}/checkout/v3/orders/{ORDER_ID}"
    return url, request.param(url)


def base_url(sandbox: Sandbox) -> str:
    return sandbox.base_url.replace("127.0.0.1", "localhost")


def client(sandbox: Sandbox) -> hpp.HPPClient:
    return hpp.HPPClient(sandbox.api_key, base_url=base_url(sandbox))


def journal_at(kind: str, folder: Path, hpp_client: hpp.HPPClient) -> Any:
    if kind == "file":
        return batch.SqliteJournal(folder / "j.db", scope=batch.Scope.of(hpp_client.settings))
    return MemoryJournal() if kind == "memory" else None


def request(url: str) -> hpp.CreateSessionRequest:
    return hpp.CreateSessionRequest(payment_session_url=url)


def urls_sent(sandbox: Sandbox) -> list[str]:
    """The orders' URLs of all POSTs, as they came."""
    return [json.loads(post.body)["payment_session_url"] for post in sandbox.record.posts]


@pytest.mark.parametrize(
    "case", [*product(("no journal", "memory", "file"), ("usual first", "other first"), ("keys", "no keys"))], ids=str
)
async def test_in_one_run(sandbox, urls, tmp_path, case):
    kind, other_first, keys = case[0], case[1] == "other first", case[2] == "keys"
    first, second = reversed(urls) if other_first else urls
    requests = request(first), request(second)
    items = [BatchItem(f"k{number}", each) for number, each in enumerate(requests)] if keys else requests
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(client(sandbox))
        journal = journal_at(kind, tmp_path, opened)
        if journal is not None:
            await stack.enter_async_context(journal)
        run = batch.run(opened.create_session, items, journal=journal, concurrency=1)
        outcomes = [outcome async for outcome in await stack.enter_async_context(run)]
    created, refused = sorted(outcomes, key=lambda outcome: outcome.state is not OutcomeState.CREATED)
    assert (created.state, refused.state) == (OutcomeState.CREATED, OutcomeState.FAILED)
    assert created.key == ("k0" if keys else first)
    assert isinstance(refused.error, hpp.InvalidRequestError)
    assert [path for path, _ in refused.error.problems] == ["payment_session_url"]
    assert len(sandbox.record.created) == 1
    assert urls_sent(sandbox) == [first]


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_in_two_runs_with_one_journal(sandbox, urls, tmp_path, kind):
    async with client(sandbox) as opened, journal_at(kind, tmp_path, opened) as journal:
        states = []
        for url in urls:
            async with batch.run(opened.create_session, [request(url)], journal=journal) as outcomes:
                states += [(outcome.key, outcome.state) async for outcome in outcomes]
    assert states == [(urls[0], OutcomeState.CREATED), (urls[1], OutcomeState.FAILED)]
    assert urls_sent(sandbox) == [urls[0]]


async def test_the_same_key_in_another_spelling_is_a_changed_payload(sandbox, urls, tmp_path):
    async with client(sandbox) as opened, journal_at("file", tmp_path, opened) as journal:
        taken = []
        for url in urls:
            async with batch.run(opened.create_session, [BatchItem("k", request(url))], journal=journal) as outcomes:
                taken += [outcome async for outcome in outcomes]
    assert taken[1].session == taken[0].session
    assert isinstance(taken[1].error, hpp.InvalidRequestError)
    assert urls_sent(sandbox) == [urls[0]]
