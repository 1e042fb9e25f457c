"""The ledger's tables, and the checks of a server before it is trusted with claims."""

import contextlib
import re
from importlib import resources
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import conninfo

from kustom_hpp.errors import JournalError

VERSION: Final = 1
"""The version of the tables in `schema.sql`, as `kustom_hpp.about` records it."""
_OLDEST_SERVER: Final = 130000
_INIT: Final = "kustom-hpp journal init"

_UNIQUE_INDEXES: Final = {"rows_pkey", "rows_session", "rows_order"}
"""Without one of these an order could get two sessions."""
_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_WRITTEN: Final = ("scopes", "runs", "rows", "surplus", "rate_limits")
SETTINGS: Final = {
    # A claim is durable on the server's disk before a request leaves, whatever the server's own default is.
    "synchronous_commit": "on",
    # A worker that is stopped inside a transaction must not hold its row locks for ever.
    "idle_in_transaction_session_timeout": "5s",
    "statement_timeout": "20s",
    "lock_timeout": "10s",
    "timezone": "UTC",
}
"""Settings of our own session, which win over those of the server, the database and the role."""


def describe_dsn(dsn: str) -> str:
    """Return the server, database and user of a DSN, without its password.

    Raises:
        JournalError: it is not a DSN.

    """
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        parts = None
    if parts is None:
        # psycopg's own text may repeat the password.
        raise JournalError(
            "the DSN is invalid: it is not a PostgreSQL URL. Use one such as postgresql://user@host/database"
        )
    known = [f"{name} {parts[name]}" for name in ("service", "host", "port", "dbname", "user") if parts.get(name)]
    return f"PostgreSQL ({', '.join(known) or 'its default database'})"


def has_password(dsn: str) -> bool:
    """Return whether a DSN contains a password."""
    parts = conninfo.conninfo_to_dict(dsn)
    return bool(parts.get("password") or parts.get("sslpassword"))


def explain(error: BaseException, address: str) -> str:
    """Return what is wrong with a database, and the next step, as text without secrets."""
    if isinstance(error, JournalError):
        return str(error)
    state = getattr(error, "sqlstate", None)
    if isinstance(error, psycopg.OperationalError) and state is None:
        said = str(error)
        if "does not exist" in said and "database" in said:
            step = "Create the database (createdb), or correct its name in the DSN"
        elif "authentication" in said or "password" in said or "role" in said or "pg_hba" in said:
            step = "Check the user, and the password in PGPASSWORD or a service file"
        else:
            step = "Check that the server runs and that the DSN is right"
        # Only the server's own last line: what stands before it repeats the connection's parameters.
        return f"cannot connect to {address} ({_last_line(said)}). {step}"
    return f"{address} failed ({type(error).__name__} {state}: {_last_line(str(error))})"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if "FATAL" in line or "failed" in line or "timeout" in line]
    line = (reasons or lines or [""])[0]
    return line.rpartition("failed: ")[2].removeprefix("FATAL:").strip() or "no reason given"


def connect(dsn: str, *, synchronous_commit: bool = True) -> "psycopg.Connection[Any]":
    """Connect, with the session settings that the ledger needs. Blocks.

    Args:
        dsn: where to connect.
        synchronous_commit: False for what need not survive a crash.

    Raises:
        psycopg.Error: no connection.

    """
    configured = conninfo.conninfo_to_dict(dsn)
    options = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "application_name": "kustom_hpp",
        "client_encoding": "utf8",
    }
    if "," in str(configured.get("host") or ""):
        options["target_session_attrs"] = "read-write"  # after a failover the other host is the primary
    merged: dict[str, Any] = {**options, **{name: value for name, value in configured.items() if value is not None}}
    connection: psycopg.Connection[Any] = psycopg.connect(**merged, autocommit=True, prepare_threshold=1)
    try:
        settings = dict(SETTINGS)
        if not synchronous_commit:
            settings["synchronous_commit"] = "off"
        query = """SELECT set_config(s.name, s.value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)
            WHERE NOT (s.value = 'on' AND current_setting(s.name) = 'remote_apply')"""  # which is stronger than ours
        connection.execute(query, ([*settings], [*settings.values()]))
    except BaseException:
        connection.close()
        raise
    return connection


def create_schema(dsn: str, address: str) -> bool:
    """Create the tables if there are none. Blocks.

    Returns:
        True if they were created, False if they were there.

    Raises:
        JournalError: the database cannot be reached, has another schema of that name, or refuses.

    """
    failure: psycopg.Error
    try:
        with contextlib.closing(connect(dsn)) as connection:
            return _create(connection, address)
    except psycopg.Error as error:
        failure = error
    raise JournalError(explain(failure, address), cause=type(failure).__name__)


def _create(connection: "psycopg.Connection[Any]", address: str) -> bool:
    server = _check_server(connection, address)
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('kustom_hpp schema'))")
            if _check_server(connection, address).has_schema:
                check(connection, address)
                return False
            connection.execute(_tables().encode(), prepare=False)
        return True
    raise JournalError(
        f"{address}: the role {server.user!r} may not create a schema. "
        f'As an administrator run: GRANT CREATE ON DATABASE "{server.database}" TO "{server.user}"'
    )


def _tables() -> str:
    return resources.files("kustom_hpp.batch.postgres").joinpath("schema.sql").read_text(encoding="utf-8")


def check(connection: "psycopg.Connection[Any]", address: str) -> None:
    """Refuse a server or a schema on which the ledger's promises do not hold.

    Raises:
        JournalError: what is wrong, and the command that mends it.

    """
    server = _check_server(connection, address)
    if not server.has_schema:
        raise JournalError(f"{address} has no ledger. Create its tables: {_INIT} URL")
    grant = f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kustom_hpp TO "{server.user}"'
    if not server.may_use_schema:
        raise JournalError(
            f"{address}: the role {server.user!r} may not use the schema kustom_hpp. As its owner run: "
            f'GRANT USAGE ON SCHEMA kustom_hpp TO "{server.user}"; {grant}'
        )
    found: list[Any] = []
    with contextlib.suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        found = connection.execute("SELECT version FROM kustom_hpp.about").fetchall()
    if len(found) != 1:
        raise JournalError(
            f"{address} has a schema kustom_hpp that is not a ledger of this library. Use another database, or rename it: "
            "ALTER SCHEMA kustom_hpp RENAME TO kustom_hpp_old"
        )
    [[version]] = found
    if version != VERSION:
        step = "Upgrade kustom_hpp" if version > VERSION else "Use the release that made it, or another database"
        raise JournalError(
            f"{address} has a ledger of version {version}, and this release uses version {VERSION}. {step}"
        )
    # With several rights in one text, one of them would be enough.
    query = """SELECT t FROM unnest(%s::text[]) AS t, unnest(%s::text[]) AS r
        WHERE NOT has_table_privilege('kustom_hpp.' || t, r)"""
    if missing := connection.execute(query, (list(_WRITTEN), list(_RIGHTS))).fetchall():
        raise JournalError(
            f"{address}: the role {server.user!r} may not write kustom_hpp.{missing[0][0]}. As the schema's owner run: {grant}"
        )
    query = """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'kustom_hpp.rows'::regclass AND i.indisunique AND i.indisvalid"""
    if lost := _UNIQUE_INDEXES - {name for (name,) in connection.execute(query)}:
        statement = re.search(rf"CREATE UNIQUE INDEX {min(lost)} [^;]*", _tables())
        raise JournalError(
            f"{address}: the ledger has no valid unique index {min(lost)}. Without it an order could get two sessions. Create "
            f"it again: {statement[0] if statement else 'ALTER TABLE kustom_hpp.rows ADD PRIMARY KEY (scope, key)'}"
        )


class _Server(NamedTuple):
    read_only: bool
    fsync: bool
    encoding: str
    user: str
    database: str
    has_schema: bool
    may_use_schema: bool | None


def _check_server(connection: "psycopg.Connection[Any]", address: str) -> _Server:
    query = """SELECT current_setting('transaction_read_only')::bool, current_setting('fsync')::bool,
        current_setting('server_encoding'), current_user::text, current_database()::text,
        to_regnamespace('kustom_hpp') IS NOT NULL, has_schema_privilege(to_regnamespace('kustom_hpp')::oid, 'USAGE')"""
    [found] = connection.execute(query).fetchall()
    server = _Server(*found)
    reason = None
    if connection.info.server_version < _OLDEST_SERVER:
        reason = "is older than PostgreSQL 13. Use 13 or newer"
    elif server.read_only:
        reason = (
            "is a standby or read-only: it cannot store claims. Connect to the primary: name all hosts in the DSN, or add "
            "target_session_attrs=read-write"
        )
    elif not server.fsync:
        reason = (
            "has fsync off: a crash would lose claims, and orders would be sent twice. Run: ALTER SYSTEM SET fsync = on; "
            "SELECT pg_reload_conf()"
        )
    elif server.encoding != "UTF8":
        reason = (
            f'uses the encoding {server.encoding}. Use a database with UTF8: CREATE DATABASE "{server.database}_utf8" '
            "ENCODING 'UTF8' TEMPLATE template0"
        )
    if reason is not None:
        raise JournalError(f"{address} {reason}")
    return server
