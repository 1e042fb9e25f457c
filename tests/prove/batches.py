"""Trials of batches: kill -9, chaos, a bad network, a stopped process, failing disks, damaged files."""

import asyncio
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import kustom_hpp as hpp
from kustom_hpp.batch import SqliteJournal, run
from kustom_hpp.sandbox import Sandbox
from tests.batch import chaos as weather
from tests.batch import histories, kills, outage
from tests.batch.journal_bugs import BUGS, Bug
from tests.prove import mutants
from tests.prove.table import Row, Size, trial
from tests.support.orders import rows, states, violations
from tests.support.tcp_proxy import BadNetwork


@trial("P4", short=15, whole=300)
async def kill_9(size: Size) -> list[Row]:
    """Batches that are killed at a random moment, once or twice, and resumed."""
    count = size.pick(12, 200)
    report = await kills.kill(count, size.seed)
    control = await kills.kill(1, size.seed, journal="forgetful")
    return [
        Row(
            promise="P4",
            tried=f"{report.kills} times kill -9 in {report.batches} batches of {kills.ROWS} rows",
            figure=f"{len(report.broken)} lost, double or wrong; at most {report.most_in_doubt} in doubt in a batch",
            target=f"0; {kills.CONCURRENCY} for each kill",
            held=not report.broken and report.kills >= count,
            control=f"a journal that records no claim: {len(control.broken)} noticed",
            noticed=bool(control.broken),
        )
    ]


@trial("P2", "P4", short=20, whole=250)
async def chaos(size: Size) -> list[Row]:
    """A batch in which three requests of ten meet a random fault."""
    count, seeds = size.pick(600, 20_000), size.pick(1, 5)
    reports = [await weather.chaos(count, seed) for seed in range(size.seed, size.seed + seeds)]
    with mutants.judges_by_class():
        control = await weather.chaos(300, size.seed)
    broken = [sentence for report in reports for sentence in report.broken]
    doubts = sum(report.ended["in_doubt"] for report in reports)
    tried = f"{count:,} rows x {seeds}, {len(weather.WEATHER)} faults, 3 requests of 10"
    line = {
        "tried": tried,
        "figure": f"{len(broken)} lost, double or wrong; {doubts} in doubt {broken[:1] or ''}".strip(),
        "target": "0",
        "held": not broken,
        "control": f"a client that judges by the exception's class: {len(control.broken)} noticed",
        "noticed": bool(control.broken),
    }
    return [Row(promise=promise, **line) for promise in ("P2", "P4")]  # type: ignore[arg-type]


async def over_network(count: int, seed: int) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """Run a batch through a bad network, and judge by the sandbox's record."""
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox:
            port = int(sandbox.base_url.rpartition(":")[2])
            async with (
                BadNetwork("127.0.0.1", port, seed=seed) as network,
                hpp.HPPClient(
                    sandbox.api_key,
                    base_url=network.base_url,
                    timeouts=hpp.Timeouts(connect=5, read=1),
                    retry=hpp.RetrySettings(initial=0.01, maximum=0.05),
                    pace=weather.Untaught(),
                ) as client,
                SqliteJournal(Path(folder) / "journal.db", scope="network") as journal,
                run(
                    client.create_session,
                    rows(network.base_url, count),
                    journal=journal,
                    concurrency=64,
                    max_doubts=1000,
                ) as outcomes,
            ):
                ended = [outcome async for outcome in outcomes]
                keys = [row.key for row in rows(network.base_url, count)]
            await sandbox.wait_until_idle(30)
            broken = list(violations(ended, sandbox.record.created, keys))
    return broken, dict(states(ended)), dict(network.met)


@trial("P2", short=20, whole=200)
async def bad_network(size: Size) -> list[Row]:
    """A batch through a TCP proxy with latency, slices, cuts, resets and black holes, each way."""
    count, seeds = size.pick(1_000, 20_000), size.pick(1, 5)
    broken, doubts, met = [], 0, 0
    for seed in range(size.seed, size.seed + seeds):
        wrong, ended, troubles = await over_network(count, seed)
        broken += wrong
        doubts += ended.get("in_doubt", 0)
        met += sum(troubles.values())
    with mutants.judges_by_class():
        control, _, _ = await over_network(300, size.seed)
    return [
        Row(
            promise="P2",
            tried=f"{count:,} rows x {seeds} through a bad network, {met} troubles met",
            figure=f"{len(broken)} lost, double or wrong; {doubts} in doubt {broken[:1] or ''}".strip(),
            target="0",
            held=not broken and met > count // 50,
            control=f"a client that judges by the exception's class: {len(control)} noticed",
            noticed=bool(control),
        )
    ]


@trial("P4", short=8, whole=75, waits=True)
async def stopped_process(size: Size) -> list[Row]:
    """A batch whose process is stopped (SIGSTOP) in its middle and continued."""
    seconds = size.pick(3, 60)
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox:
            killer = kills.Killer(sandbox, Path(folder), size.seed)
            handed_out = await killer.interrupt("stopped", [(signal.SIGSTOP, seconds), (signal.SIGCONT, 60.0)])
            await sandbox.wait_until_idle(30)
            outcomes = await killer.resume("stopped")
            keys = [row.key for row in rows(sandbox.base_url, kills.ROWS, "stopped")]
            broken = [*violations(outcomes, sandbox.record.created, keys), *killer.report.broken]
            sandbox.record.clear()
            forgetful = kills.Killer(sandbox, Path(folder), size.seed, journal="forgetful")
            await forgetful.interrupt("control", [(signal.SIGSTOP, 0.2), (signal.SIGKILL, 60.0)])
            keys = [row.key for row in rows(sandbox.base_url, kills.ROWS, "control")]
            control = list(violations(await forgetful.resume("control"), sandbox.record.created, keys))
    return [
        Row(
            promise="P4",
            tried=f"a batch of {kills.ROWS} rows stopped for {seconds} s; {len(handed_out)} outcomes before its end",
            figure=f"{len(broken)} lost, double or wrong {broken[:1] or ''}".strip(),
            target="0",
            held=not broken and len(handed_out) == kills.ROWS,
            control=f"a journal that records no claim: {len(control)} noticed",
            noticed=bool(control),
        )
    ]


HISTORIES = {"memory": (60, 4_000), "SQLite": (10, 300), "shared": (60, 4_000)}
"""How many histories of each journal are played, in short and in the whole programme."""


async def find_bugs(bugs: Sequence[Bug]) -> tuple[int, int]:
    """Return how many planted bugs the histories find, and how many there are."""
    found = 0
    for bug in bugs:
        with bug.planted():
            try:
                await asyncio.to_thread(histories.check, histories.WORLDS[bug.world], histories.ENOUGH)
            except AssertionError:
                found += 1
    return found, len(bugs)


@trial("P4", short=15, whole=230)
async def journal_histories(size: Size) -> list[Row]:
    """Random claims, outcomes, crashes and ends of leases, and a small model that says what must come of them."""
    lines: list[tuple[str, str]] = []
    for name, counts in HISTORIES.items():
        try:
            steps = await asyncio.to_thread(
                histories.check, histories.WORLDS[name], size.pick(*counts), start=size.seed
            )
            lines.append((f"{steps.total():,} steps, {steps['crash']:,} crashes, journal: {name}", ""))
        except AssertionError as error:
            lines.append((f"journal: {name}", str(error)[:200] or "another state"))
    found, bugs = await find_bugs(BUGS[:: size.pick(6, 1)])
    return [
        Row(
            promise="P4",
            tried=f"random histories, {tried}",
            figure=wrong or "0 differences from the model",
            target="0",
            held=not wrong,
            control=f"{found} of {bugs} planted bugs found",
            noticed=found == bugs,
        )
        for tried, wrong in lines
    ]


async def command(*arguments: str) -> tuple[int, str]:
    """Run another proof; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace")


@trial("P5", short=12, whole=760)
async def damaged_files(size: Size) -> list[Row]:
    """Every bit of a journal's files flipped, and every length cut."""
    code, out = await command("tests.batch.damage", "--every", str(size.pick(29, 1)), "--jobs", "1")
    trials = sum(int(count) for count in re.findall(r"^\S.{33} +(\d+) ", out, re.MULTILINE))
    control = re.search(r"^control.*earlier state (\d+)", out, re.MULTILINE)
    return [
        Row(
            promise="P5",
            tried=f"{trials:,} flipped bits and cut files",
            figure="all refused or harmless" if code == 0 else out.strip().splitlines()[-1][:200],
            target="all",
            held=code == 0 and trials > 0,
            control=f"a log without its watermark: {control[1] if control else 0} missed",
            noticed=control is not None,
        )
    ]


@trial("P5", short=15, whole=60, waits=True)
async def failing_disks(size: Size) -> list[Row]:
    """Syncs and writes that fail, a full file system, a file that may not grow (needs strace and root)."""
    code, out = await command("tests.batch.disk", "--most", str(size.pick(6, 60)))
    trials = sum(int(count) for count in re.findall(r": (\d+) trials", out))
    control = re.search(r"^control: .*?(\d+) of (\d+) noticed", out, re.MULTILINE)
    return [
        Row(
            promise="P5",
            tried=f"{trials} trials with EIO, ENOSPC and files that may not grow",
            figure="0 acknowledged and lost" if code == 0 else out.strip()[-300:],
            target="0",
            held=code == 0 and trials > 0,
            control=f"a journal that acknowledges what failed: {control[1] if control else 0} noticed",
            noticed=control is not None and int(control[1]) > 0,
        )
    ]


@trial("P11", short=12, whole=60, waits=True)
async def batch_outage(size: Size) -> list[Row]:
    """An API that answers 500 from some row on, and a server that is gone for a while."""
    count, seconds = size.pick(1_500, 10_000), size.pick(3, 20)
    failing, away = await outage.all_500(count), await outage.gone(count // 5, seconds)
    with mutants.never_stops():
        control = await outage.all_500(600)
    broken, doubts = failing.broken + away.broken, re.search(r"'in_doubt': (\d+)", failing.reported[0])
    return [
        Row(
            promise="P11",
            tried=f"batches of {count:,} rows while the API answers 500, and without a server for {seconds} s",
            figure=f"{len(broken)} broken rules; {doubts[1] if doubts else '?'} rows in doubt {broken[:1] or ''}".strip()[
                :300
            ],
            target="0; at most 42",
            held=not broken,
            control=f"a batch that never stops: {len(control.broken)} noticed",
            noticed=bool(control.broken),
        )
    ]
