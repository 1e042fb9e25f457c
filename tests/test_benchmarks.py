"""The benchmarks measure something, and refuse to call it a figure when a client did not do its work.

No test here looks at how long anything takes: that is for `python -m benchmarks` on a machine that has nothing else to do.
"""

import asyncio
import json
from collections.abc import Iterator

import attrs
import pytest

import kustom_hpp as hpp
from benchmarks import __main__ as command
from benchmarks import (
    batch,
    callbacks,
    clients,
    generated,
    imports,
    measure,
    memory,
    overhead,
    payloads,
    sandbox,
    server,
    serving,
)
from benchmarks.report import Figure, Section
from kustom_hpp import callbacks as hpp_callbacks


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.Server() as running:
        yield running.url


class Scripted:
    """A client with scripted responses that sends nothing."""

    name = "scripted"

    def __init__(self, *, valid: bool) -> None:
        self.valid = valid
        self.sent: list[int] = []

    async def send(self, index: int) -> bool:
        self.sent.append(index)
        return self.valid

    async def aclose(self) -> None:
        pass


# What goes over the wire.


def test_requests_are_valid_distinct_and_as_long_as_they_are_said_to_be() -> None:
    assert payloads.request(7).problems() == ()
    assert payloads.request(7).warnings() == ()
    assert payloads.body(7) != payloads.body(8)
    assert 1_150 < len(payloads.body(7)) < 1_250
    assert 850 < len(payloads.RESPONSE_BODY) < 950


async def test_our_client_and_the_raw_one_send_the_same_and_the_server_counts_both(url: str) -> None:
    ours = clients.Ours(url, "same")
    raw = clients.RawAiohttp(url, await clients.headers_of(ours, url), "same-raw")
    try:
        await clients.check_same([ours, raw], url)
    finally:
        await ours.aclose()
        await raw.aclose()
    headers, _ = server.last_request(url, "same-raw")
    assert headers["Authorization"] == f"Basic {payloads.API_KEY}"
    assert server.counts(url) | {"same": 2, "same-raw": 1} == server.counts(url)


async def test_clients_that_send_other_headers_are_refused(url: str) -> None:
    ours = clients.Ours(url, "other")
    raw = clients.RawAiohttp(url, {"Content-Type": "application/json"}, "other-raw")
    try:
        with pytest.raises(measure.CheckFailedError, match="other-raw: its headers"):
            await clients.check_same([ours, raw], url)
    finally:
        await ours.aclose()
        await raw.aclose()


async def test_a_client_that_sends_another_body_is_refused(url: str) -> None:
    ours = clients.Ours(url, "body")
    ours._requests = [*ours._requests[:-1], payloads.request(0)]
    try:
        with pytest.raises(measure.CheckFailedError, match="body: its body"):
            await clients.check_same([ours], url)
    finally:
        await ours.aclose()


# The measuring.


async def test_workers_pull_every_request_once() -> None:
    client = Scripted(valid=True)
    assert await measure.burst(client, requests=10, concurrency=4) > 0
    assert sorted(client.sent) == list(range(10))


async def test_a_wrong_answer_is_no_figure() -> None:
    with pytest.raises(measure.CheckFailedError, match="scripted: 3 of 3 responses"):
        await measure.burst(Scripted(valid=False), requests=3, concurrency=2)


async def test_requests_that_the_server_did_not_get_are_no_figure(url: str) -> None:
    with pytest.raises(measure.CheckFailedError, match="scripted: 4 requests by its own count, 0 by the server's"):
        await measure.alternate([Scripted(valid=True)], url=url, concurrency=1, rounds=1, requests=2)


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    ratio = measure.Ratio.of([2e-6, 3e-6, 8e-6], [2e-6, 2e-6, 2e-6])
    assert (ratio.median, ratio.low, ratio.high, ratio.micros) == pytest.approx((1.5, 1.25, 2.75, 3.0))


# The sections, end to end.


def test_overhead_measures_every_concurrency_with_each_json_library(url: str) -> None:
    section = overhead.measure(url, concurrencies=(1, 3), rounds=2, requests=6)
    assert all(figure.value > 0 for figure in section.figures)
    assert {figure.what for figure in section.figures} >= {
        "create_session, json, 1 in flight",
        "raw aiohttp again, 3 in flight",
    }
    assert len(section.figures) == (8 if overhead.has_orjson() else 4)


@pytest.mark.slow
def test_memory_measures_growth_and_idle_clients(url: str) -> None:
    section = memory.measure(url, requests=100, clients=3)
    growth, unused, used = (figure.value for figure in section.figures)
    assert growth >= 0
    assert 0 < unused < used


@pytest.mark.slow
def test_batch_measures_cpu_the_first_outcome_and_memory(url: str) -> None:
    section = batch.measure(url, rounds=2, requests=40, rows=(10, 20, 30))
    assert [figure.what for figure in section.figures if figure.at_most is not None] == [
        "batch without a journal",
        "the first of 100,000 outcomes",
        "30 rows above 20",
    ]
    assert all(figure.value > 0 for figure in section.figures[:-1])


@pytest.mark.slow
def test_callbacks_measures_each_body_with_each_json_library() -> None:
    section = callbacks.measure(rounds=2, times=5)
    assert all(figure.value > 0 and figure.at_most == 20 for figure in section.figures)
    assert len(section.figures) == len(callbacks.BODIES) * (2 if overhead.has_orjson() else 1)


def test_a_callback_that_is_read_wrongly_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kustom_hpp.callbacks.parse", lambda _: hpp_callbacks.StatusUpdate())
    with pytest.raises(measure.CheckFailedError, match="parse does not read 'every field'"):
        asyncio.run(callbacks.task(rounds=1, times=1))


@pytest.mark.slow
def test_sandbox_measures_it_beside_a_bare_handler() -> None:
    section = sandbox.measure(rounds=2, requests=20)
    [figure] = section.figures
    assert figure.value > 0
    assert figure.at_least == 0.35


async def test_a_sandbox_that_creates_nothing_is_no_figure() -> None:
    class Idle:
        """Returns 201, and has created nothing."""

        kind = "idle"

        def report(self) -> dict[str, float]:
            return {"cpu": 1.0, "created": 0}

    with serving.Process("bare") as bare:
        idle = Idle()
        idle.base_url = bare.base_url
        with pytest.raises(measure.CheckFailedError, match="idle: 3 of 3 created"):
            await sandbox.alternate([idle], rounds=1, requests=3)


@pytest.mark.slow
def test_imports_measures_both() -> None:
    section = imports.measure(rounds=2)
    assert [figure.what for figure in section.figures] == ["from kustom_hpp import HPPClient", "import aiohttp again"]
    assert all(figure.value > 0 for figure in section.figures)


def test_a_generator_that_cannot_be_had_is_told_with_the_way_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "GENERATOR", "./no-such-generator")
    monkeypatch.setattr(generated.importlib.util, "find_spec", lambda _: None)
    section = generated.measure(url, rounds=2, requests=2, patience=30)
    assert section.missed
    assert "pip install" in section.text()


def test_the_generators_description_has_every_field_of_our_models() -> None:
    schemas = generated.DESCRIPTION["components"]["schemas"]
    for model, name in (
        (hpp.CreateSessionRequest, "CreateSession"),
        (hpp.MerchantUrls, "MerchantUrls"),
        (hpp.Options, "Options"),
        (hpp.BackgroundImage, "BackgroundImage"),
        (hpp.Session, "Session"),
        (hpp.DistributionModule, "DistributionModule"),
    ):
        ours = {field.name for field in attrs.fields(model)} - {"extra", "info"}
        assert ours == set(schemas[name]["properties"])


# The command.


@pytest.fixture
def one_section(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The command with one section, whose figures the test may change."""
    figures = [Figure(what="thing", value=2.0, at_most=1.5)]
    monkeypatch.setattr(command, "sections", lambda *_: {"one": lambda: Section("one", "about", figures)})
    return figures


def test_a_missed_target_is_shown_and_fails_only_a_check(
    one_section: list[Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([]) == 0
    assert "at most 1.5  NO" in capsys.readouterr().out
    assert command.main(["--check"]) == 1
    one_section[0] = Figure(what="thing", value=2.0, at_least=2.0)
    assert command.main(["--check"]) == 0
    assert "at least 2  yes" in capsys.readouterr().out


def test_json_is_one_object(one_section: list[Figure], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", "one"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["machine"]["aiohttp"]
    assert printed["sections"][0]["figures"][0]["reached"] is False


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["speed"])
    assert (
        "no section speed; there are overhead, sync, generated, imports, memory, callbacks, batch"
        in capsys.readouterr().err
    )
