-- The ledger's tables, version 1. `kustom-hpp journal init` creates them.

CREATE SCHEMA kustom_hpp;

CREATE TABLE kustom_hpp.about (
    version integer NOT NULL,
    identity uuid NOT NULL DEFAULT gen_random_uuid()
);

CREATE TABLE kustom_hpp.scopes (
    id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL UNIQUE
);

CREATE TABLE kustom_hpp.runs (
    run text PRIMARY KEY,
    scope smallint NOT NULL REFERENCES kustom_hpp.scopes,
    host text NOT NULL,
    pid integer NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL,
    timeline integer NOT NULL,
    ended timestamptz
);

-- bytea: a key may hold a NUL, which a text of PostgreSQL cannot. JSON as text for the same reason.
CREATE TABLE kustom_hpp.rows (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    scope smallint NOT NULL REFERENCES kustom_hpp.scopes,
    key bytea NOT NULL,
    payment_session text,
    digest bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('claimed', 'created', 'failed', 'in_doubt')),
    delivery text,
    had_unknown_attempt smallint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    session_id text,
    session text,
    info text,
    error text,
    note text,
    run text NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE UNIQUE INDEX rows_session ON kustom_hpp.rows (scope, session_id) WHERE session_id IS NOT NULL;
CREATE UNIQUE INDEX rows_order ON kustom_hpp.rows (scope, payment_session)
    WHERE payment_session IS NOT NULL AND state <> 'failed';
CREATE INDEX rows_open ON kustom_hpp.rows (scope, id) WHERE state IN ('claimed', 'in_doubt');

CREATE TABLE kustom_hpp.surplus (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope smallint NOT NULL REFERENCES kustom_hpp.scopes,
    key bytea NOT NULL,
    session_id text,
    session text,
    error text,
    run text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE kustom_hpp.rate_limits (merchant text PRIMARY KEY, full_at float8 NOT NULL) WITH (fillfactor = 50);

CREATE VIEW kustom_hpp.ledger AS
    SELECT s.scope, convert_from(r.key, 'UTF8') AS key, r.payment_session, r.state, r.session_id, r.attempts, r.run,
           to_timestamp(r.at / 1000.0) AS changed_at, r.note
    FROM kustom_hpp.rows r JOIN kustom_hpp.scopes s ON s.id = r.scope;

INSERT INTO kustom_hpp.about (version) VALUES (1);
