"""`kustom-hpp batch` and `kustom-hpp journal` with a ledger in PostgreSQL."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli, start
from tests.support.batch_files import made, order, read, states, write
from tests.support.postgres import Cluster

_NUMBERS = itertools.count()


@pytest.fixture
def ledger(cli: Cli, cluster: Cluster) -> Iterator[str]:
    """The URL of a new ledger."""
    name = f"cli_{next(_NUMBERS)}"
    url = cluster.create_database(name)
    assert cli("journal", "init", url).code == 0
    yield url
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_run_and_what_is_known_about_it(
    cli: Cli, at_sandbox: ThreadedSandbox, cluster: Cluster, ledger: str, tmp_path: Path
) -> None:
    for number in (1, 2):
        at_sandbox.fault("status_503", payment_session_url=order(number), times=1)
    at_sandbox.fault("status_404", payment_session_url=order(3), times=1)
    words = ["batch", write(tmp_path / "in", 6), "--output", str(tmp_path / "out"), "--journal", ledger]
    done = cli(*words)
    assert (done.code, f"kustom-hpp journal resolve {ledger} KEY" in done.err) == (4, True)
    assert Counter(states(tmp_path / "out").values()) == {"created": 3, "failed": 1, "in_doubt": 2}

    shown = [text.split() for text in cli("journal", "show", ledger).out.splitlines()]
    assert shown[:3] == [["created", "3"], ["failed", "1"], ["in", "doubt", "2"]]
    assert ["all", "6"] in [text.split() for text in cli("journal", "report", ledger).out.splitlines()]
    page = tmp_path / "report.html"
    assert cli("journal", "report", ledger, "--html", str(page)).code == 0
    assert at_sandbox.base_url in page.read_text()
    assert len(cli("journal", "export", ledger).out.splitlines()) == 6

    assert cli("journal", "resolve", ledger, "row 1", "--send-again").code == 0
    done = cli("journal", "resolve", ledger, "row 2", "--created", "s2", "--redirect-url", "https://pay.example/s2")
    assert (done.code, '"created"' in done.out) == (0, True)
    assert cli(*words).code == 1
    assert Counter(states(tmp_path / "out").values()) == {"created": 5, "failed": 1}
    assert made(at_sandbox) == {order(number): 1 for number in (0, 1, 4, 5)}

    done = cli("journal", "prune", ledger, "--older-than", "3")
    assert (done.code, "0 rows" in done.err) == (0, True)
    database = ledger.rpartition("/")[2].partition("?")[0]
    cluster.execute("UPDATE kustom_hpp.rows SET at = at - 4 * 86400000::bigint", database)
    cluster.execute("UPDATE kustom_hpp.runs SET lease_until = lease_until - interval '4 days'", database)
    done = cli("journal", "prune", ledger, "--older-than", "3")
    assert (done.code, "5 rows" in done.err) == (0, True)
    assert cluster.execute("SELECT count(*) FROM kustom_hpp.runs", database) == [(1,)]  # that of the command itself
    before = made(at_sandbox)
    assert cli(*words).code == 1
    assert made(at_sandbox) == before
    assert [row["session"]["session_id"] for row in read(tmp_path / "out") if row["key"] == "row 2"] == ["s2"]


def test_two_machines_share_one_input(
    environment: pytest.MonkeyPatch, at_sandbox: ThreadedSandbox, ledger: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "in", 300)
    settings = {"KUSTOM_HPP_BASE_URL": at_sandbox.base_url, "KUSTOM_HPP_API_KEY": at_sandbox.api_key}
    machines = [
        start(
            "batch", path, "--output", str(tmp_path / f"out-{number}"), "--journal", ledger, "--rate", "300", **settings
        )
        for number in (1, 2)
    ]
    for machine in machines:
        with machine:
            machine.communicate(timeout=60)
        assert machine.returncode == 0
    assert set(made(at_sandbox).values()) == {1}
    assert len(made(at_sandbox)) == 300
    one, other = (states(tmp_path / f"out-{number}") for number in (1, 2))
    assert [key for key in one if "created" not in {one[key], other[key]}] == []
    assert {*one.values(), *other.values()} <= {"created", "claimed_elsewhere"}


def test_several_scopes_ask_for_one(
    cli: Cli, at_sandbox: ThreadedSandbox, ledger: str, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    done = cli("journal", "show", ledger)
    assert (done.code, "the ledger has no rows" in done.err) == (2, True)
    words = ["batch", write(tmp_path / "in", 1), "--output", str(tmp_path / "out"), "--journal", ledger]
    assert cli(*words).code == 0
    with ThreadedSandbox(api_key=at_sandbox.api_key) as other:
        environment.setenv("KUSTOM_HPP_BASE_URL", other.base_url)
        assert cli(*words).code == 0
    done = cli("journal", "show", ledger)
    scope = f"{at_sandbox.base_url} without environment"
    assert (done.code, "--scope: " in done.err, scope in done.err) == (2, True, True)
    assert "has no scope 'x'" in cli("journal", "show", ledger, "--scope", "x").err
    done = cli("journal", "show", ledger, "--scope", scope)
    assert (done.code, done.out.split()[:2]) == (0, ["created", "1"])


def test_a_surplus_session_is_shown_with_the_command_that_disables_it(
    cli: Cli, at_sandbox: ThreadedSandbox, cluster: Cluster, ledger: str, tmp_path: Path
) -> None:
    words = ["batch", write(tmp_path / "in", 1), "--output", str(tmp_path / "out"), "--journal", ledger]
    assert cli(*words).code == 0
    insert = "INSERT INTO kustom_hpp.surplus (scope, key, session_id, run) SELECT id, 'row 0', 's1', 'x'"
    cluster.execute(f"{insert} FROM kustom_hpp.scopes", ledger.rpartition("/")[2].partition("?")[0])
    assert "kustom-hpp disable s1" in cli("journal", "show", ledger).out


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("journal", "show", "postgresql://shop:secret@127.0.0.1/shop"), "Set PGPASSWORD or use a service file"),
        (("journal", "init", "postgresql://127.0.0.1/shop?password=secret"), "Set PGPASSWORD or use a service file"),
        (("journal", "export", "postgresql://[::1/shop"), "the DSN is invalid"),
        (("journal", "show", "postgresql://127.0.0.1:1/shop"), "Check that the server runs"),
        (("journal", "init", "j.db"), "needs a URL such as postgresql://"),
        (("journal", "init", "postgresql://127.0.0.1:1/shop"), "Check that the server runs"),
        (("journal", "prune", "j.db", "--older-than", "30"), "needs a URL such as postgresql://"),
        (
            ("batch", "in", "--output", "out", "--journal", "postgresql://127.0.0.1:1/shop"),
            "Check that the server runs",
        ),
        (
            ("batch", "in", "--output", "out", "--journal", "postgresql://shop:secret@127.0.0.1/shop"),
            "Set PGPASSWORD or use a service file",
        ),
        (
            ("batch", "in", "--output", "out", "--journal", "postgresql://127.0.0.1/shop", "--on-doubt", "resend"),
            "KEY --send-again",
        ),
    ],
)
def test_wrong_usage(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, words: tuple[str, ...], fragment: str
) -> None:
    names = {"in": write(tmp_path / "in", 1), "out": str(tmp_path / "out")}
    done = cli(*(names.get(word, word) for word in words))
    assert (done.code, fragment in done.err) == (2, True)
    assert "secret" not in done.out + done.err
    assert not (tmp_path / "out").exists()
    assert not at_sandbox.record.requests


def test_too_young_rows_are_not_pruned(cli: Cli, at_sandbox: ThreadedSandbox, ledger: str, tmp_path: Path) -> None:
    words = ["batch", write(tmp_path / "in", 1), "--output", str(tmp_path / "out"), "--journal", ledger]
    assert cli(*words).code == 0
    done = cli("journal", "prune", ledger, "--older-than", "1")
    assert (done.code, "at least 3 days" in done.err) == (3, True)


def test_init_creates_the_tables_once(cli: Cli, cluster: Cluster) -> None:
    url = cluster.create_database(f"cli_{next(_NUMBERS)}")
    for said in ("was created", "was there already"):
        done = cli("journal", "init", url)
        assert (done.code, said in done.err) == (0, True)


def test_a_ledger_without_tables_names_the_command(cli: Cli, cluster: Cluster) -> None:
    done = cli("journal", "show", cluster.create_database(f"cli_{next(_NUMBERS)}"))
    assert (done.code, "kustom-hpp journal init" in done.err) == (2, True)
