"""A database that cannot be trusted with claims is refused, with the command that mends it."""

import itertools
from collections.abc import Iterator

import pytest

from kustom_hpp import errors
from kustom_hpp.batch import Claimed, PostgresLedger
from tests.support.journal_contract import PAYLOAD
from tests.support.postgres import Cluster, free_port

_NUMBERS = itertools.count()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The name of an empty database."""
    name = f"schema_{next(_NUMBERS)}"
    cluster.create_database(name)
    yield name
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def refused(dsn: str) -> str:
    """The text with which a ledger is refused."""
    with pytest.raises(errors.JournalError) as caught:
        await PostgresLedger(dsn).__aenter__()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


async def test_a_schema_is_created_once(cluster: Cluster, database: str) -> None:
    ledger = PostgresLedger(cluster.dsn(database))
    assert "kustom-hpp journal init" in await refused(cluster.dsn(database))
    assert await ledger.create_schema() is True
    assert await ledger.create_schema() is False
    async with PostgresLedger(cluster.dsn(database)) as opened, opened.journal("here") as journal:
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
    [[scope, key, state]] = cluster.execute("SELECT scope, key, state FROM kustom_hpp.ledger", database)
    assert (scope, key, state) == ("here", "a", "claimed")


@pytest.mark.parametrize(
    ("statement", "fragments"),
    [
        ("UPDATE kustom_hpp.about SET version = 7", ["version 7", "uses version 1", "Upgrade kustom_hpp"]),
        ("UPDATE kustom_hpp.about SET version = 0", ["version 0", "Use the release that made it"]),
        ("DROP TABLE kustom_hpp.about", ["is not a ledger of this library", "ALTER SCHEMA kustom_hpp RENAME"]),
        ("DROP INDEX kustom_hpp.rows_order", ["unique index rows_order", "CREATE UNIQUE INDEX rows_order ON"]),
        ("DROP INDEX kustom_hpp.rows_session", ["unique index rows_session", "CREATE UNIQUE INDEX rows_session ON"]),
        ("ALTER TABLE kustom_hpp.rows DROP CONSTRAINT rows_pkey", ["unique index rows_pkey", "ADD PRIMARY KEY"]),
        ("REVOKE ALL ON kustom_hpp.rows FROM shop", ["'shop' may not write kustom_hpp.rows", "GRANT SELECT, INSERT"]),
        (
            "REVOKE DELETE ON kustom_hpp.runs FROM shop",
            ["'shop' may not write kustom_hpp.runs", "GRANT SELECT, INSERT"],
        ),
        ("REVOKE USAGE ON SCHEMA kustom_hpp FROM shop", ["'shop' may not use the schema", "GRANT USAGE ON SCHEMA"]),
        ("ALTER ROLE shop SET default_transaction_read_only = on", ["standby or read-only", "target_session_attrs"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_changed_schema_is_refused(
    cluster: Cluster, database: str, statement: str, fragments: list[str]
) -> None:
    await PostgresLedger(cluster.dsn(database)).create_schema()
    cluster.execute("DROP ROLE IF EXISTS shop; CREATE ROLE shop LOGIN", database)
    try:
        cluster.execute(
            "GRANT USAGE ON SCHEMA kustom_hpp TO shop; "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kustom_hpp TO shop",
            database,
        )
        dsn = cluster.dsn(database).replace("tests@", "shop@")
        async with PostgresLedger(dsn):
            pass
        cluster.execute(statement, database)
        text = await refused(dsn)
        assert [fragment for fragment in fragments if fragment not in text] == []
    finally:
        cluster.execute("DROP OWNED BY shop; DROP ROLE shop", database)


async def test_a_role_that_may_not_create_the_schema(cluster: Cluster, database: str) -> None:
    cluster.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN", database)
    ledger = PostgresLedger(cluster.dsn(database).replace("tests@", "guest@"))
    with pytest.raises(errors.JournalError, match=r'GRANT CREATE ON DATABASE "schema_[0-9]+" TO "guest"'):
        await ledger.create_schema()
    cluster.execute("DROP ROLE guest")


async def test_a_database_of_another_encoding_is_refused(cluster: Cluster) -> None:
    cluster.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    assert "ENCODING 'UTF8'" in await refused(cluster.dsn("ascii"))
    cluster.execute("DROP DATABASE ascii")


async def test_fsync_off_is_refused(cluster: Cluster) -> None:
    with Cluster(fsync="off") as unsafe:
        text = await refused(unsafe.dsn())
    assert "fsync off" in text
    assert "ALTER SYSTEM SET fsync = on" in text


@pytest.mark.parametrize(
    ("dsn", "fragment"),
    [
        ("postgresql://shop:p4ssw0rd@127.0.0.1:{free}/shop", "Check that the server runs and that the DSN is right"),
        ("postgresql://shop:p4ssw0rd@127.0.0.1:{port}/shop", "PGPASSWORD"),
        ("postgresql://tests:p4ssw0rd@127.0.0.1:{port}/nowhere", "createdb"),
    ],
)
async def test_a_failed_connection_is_explained_without_the_password(cluster: Cluster, dsn: str, fragment: str) -> None:
    text = await refused(dsn.format(port=cluster.port, free=free_port()))
    assert fragment in text
    assert "p4ssw0rd" not in text


@pytest.mark.parametrize(
    "dsn", ["p4ssw0rd", "mysql://shop:p4ssw0rd@host/shop", "postgresql://shop:p4ssw0rd@host:port/x"]
)
async def test_an_invalid_dsn_is_explained_without_the_password(cluster: Cluster, dsn: str) -> None:
    with pytest.raises(errors.JournalError) as caught:
        await PostgresLedger(dsn).__aenter__()
    assert "p4ssw0rd" not in str(caught.value)
    assert "Use one such as postgresql://" in str(caught.value) or "Check that" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"lease": 0}, "lease"),
        ({"beat": -1}, "beat"),
        ({"patience": float("inf")}, "patience"),
        ({"beat": 51}, "third"),
    ],
    ids=str,
)
def test_numbers_that_cannot_work(settings: dict[str, float], fragment: str) -> None:
    with pytest.raises(errors.ConfigError, match=fragment):
        PostgresLedger("postgresql://localhost/x", **settings)


async def test_a_forked_child_is_refused(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PostgresLedger(ledger_dsn) as ledger, ledger.journal("fork") as journal:
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: -1)
            with pytest.raises(errors.JournalError, match="after the fork"):
                await journal.claim("a", None, PAYLOAD)


async def test_two_scopes_know_nothing_of_each_other(ledger_dsn: str) -> None:
    async with (
        PostgresLedger(ledger_dsn) as ledger,
        ledger.journal("scope one") as one,
        ledger.journal("scope two") as two,
    ):
        for journal in (one, two):
            assert await journal.claim("a", "https://x/checkout/v3/orders/1", PAYLOAD) == Claimed()
            assert [row.key async for row in journal.rows()] == ["a"]
