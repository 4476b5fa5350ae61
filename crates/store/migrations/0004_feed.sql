-- Who may call, as gateways are told: one row per credential and agreement, numbered by its last change. A row that is
-- no more stays for a while, so that gateways hear of it.
CREATE TABLE roster (
    subject TEXT PRIMARY KEY,
    application_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    is_live BIGINT NOT NULL,
    expires_at BIGINT,
    changed_at BIGINT NOT NULL,
    entry {blob} NOT NULL
);
CREATE UNIQUE INDEX roster_by_number ON roster (number);
CREATE INDEX roster_by_application ON roster (application_id);
CREATE INDEX roster_removed ON roster (number) WHERE is_live = 0;
CREATE INDEX roster_by_expiry ON roster (expires_at) WHERE is_live = 1 AND expires_at IS NOT NULL;

-- One row. Epoch names the sequence of numbers; nothing at or below the floor is remembered of what is no more.
CREATE TABLE roster_head (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    floor_number BIGINT NOT NULL,
    digest TEXT NOT NULL
);

CREATE TABLE node (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    certificate_sha256 TEXT NOT NULL UNIQUE,
    previous_sha256 TEXT,
    certificate_expires_at BIGINT NOT NULL,
    enrolled_by TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    revoked_at BIGINT,
    seen_at BIGINT,
    standing TEXT,
    version TEXT
);
CREATE INDEX node_by_previous ON node (previous_sha256);

CREATE TABLE node_token (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX deployment_by_api ON deployment (api_id);
