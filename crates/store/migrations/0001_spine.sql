-- Written in the subset that SQLite and PostgreSQL share. {blob} is BLOB or BYTEA. Times are microseconds since the
-- Unix epoch, truth values 0 or 1, nested values JSON.

CREATE TABLE tenant (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    is_active BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    status TEXT NOT NULL,
    password_hash TEXT,
    failed_attempts BIGINT NOT NULL,
    locked_until BIGINT,
    invitation_digest TEXT UNIQUE,
    invitation_expires_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX account_by_tenant ON account (tenant_id, id);

CREATE TABLE session (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    user_id TEXT NOT NULL,
    application_id TEXT,
    credential_id TEXT,
    roles TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX session_by_tenant ON session (tenant_id, id);
CREATE INDEX session_by_expiry ON session (expires_at);

CREATE TABLE signing_key (
    kid TEXT PRIMARY KEY,
    sealed_key {blob} NOT NULL,
    public_key {blob} NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);

CREATE TABLE api (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    description TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    contact_email TEXT NOT NULL,
    visibility TEXT NOT NULL,
    visible_to TEXT NOT NULL,
    classification TEXT NOT NULL,
    contains_phi BIGINT NOT NULL,
    tags TEXT NOT NULL,
    categories TEXT NOT NULL,
    documentation_url TEXT,
    terms_of_service_url TEXT,
    license TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (tenant_id, name_key)
);

-- What is looked for, written beside the row that is read.
CREATE TABLE api_audience (
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    PRIMARY KEY (api_id, tenant_id)
);

CREATE TABLE api_label (
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    label TEXT NOT NULL,
    PRIMARY KEY (api_id, kind, label)
);
CREATE INDEX api_label_by_label ON api_label (kind, label);

CREATE TABLE api_version (
    id TEXT PRIMARY KEY,
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    number TEXT NOT NULL,
    status TEXT NOT NULL,
    submitted_by TEXT NOT NULL,
    decision TEXT,
    deprecated_at BIGINT,
    sunset_at BIGINT,
    successor_id TEXT,
    format TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (api_id, number)
);
CREATE INDEX api_version_by_status ON api_version (status, tenant_id);

CREATE TABLE specification (
    version_id TEXT PRIMARY KEY REFERENCES api_version (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    media_type TEXT NOT NULL,
    content {blob} NOT NULL,
    summary TEXT NOT NULL
);

CREATE TABLE plan (
    id TEXT PRIMARY KEY,
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    limits TEXT NOT NULL,
    quota TEXT,
    approval TEXT NOT NULL,
    is_open BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (api_id, name)
);

CREATE TABLE application (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE credential (
    id TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    status TEXT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    replaced_by TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX credential_by_application ON credential (application_id, id);

CREATE TABLE subscription (
    id TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    consumer_id TEXT NOT NULL REFERENCES tenant (id),
    api_id TEXT NOT NULL REFERENCES api (id),
    owner_id TEXT NOT NULL REFERENCES tenant (id),
    version_id TEXT NOT NULL REFERENCES api_version (id),
    plan_id TEXT NOT NULL REFERENCES plan (id),
    status TEXT NOT NULL,
    purpose_of_use TEXT,
    agreement_sha256 TEXT,
    expires_at BIGINT,
    requested_by TEXT NOT NULL,
    decided_by TEXT,
    comments TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
-- One live subscription of an application to a version.
CREATE UNIQUE INDEX subscription_live ON subscription (application_id, version_id)
    WHERE status IN ('pending', 'active', 'suspended');
CREATE INDEX subscription_by_consumer ON subscription (consumer_id, id);
CREATE INDEX subscription_by_owner ON subscription (owner_id, id);
CREATE INDEX subscription_by_version ON subscription (version_id, status);
CREATE INDEX subscription_by_plan ON subscription (plan_id, status);

CREATE TABLE deployment (
    id TEXT PRIMARY KEY,
    api_id TEXT NOT NULL REFERENCES api (id),
    version_id TEXT NOT NULL REFERENCES api_version (id),
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    host TEXT NOT NULL,
    path_prefix TEXT NOT NULL,
    strip_prefix BIGINT NOT NULL,
    upstream TEXT NOT NULL,
    limits TEXT NOT NULL,
    max_body_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (host, path_prefix)
);
CREATE INDEX deployment_by_version ON deployment (version_id);

CREATE TABLE category (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    content TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE audit_event (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    actor_tenant TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_event_by_tenant ON audit_event (tenant_id, id);

CREATE TABLE event (
    number BIGINT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE idempotency (
    subject TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    outcome {blob},
    created_at BIGINT NOT NULL,
    PRIMARY KEY (subject, idempotency_key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE usage_rollup (
    grain TEXT NOT NULL,
    start_at BIGINT NOT NULL,
    version_id TEXT NOT NULL,
    application_id TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    operation BIGINT NOT NULL,
    api_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    consumer_id TEXT NOT NULL,
    calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    status_codes TEXT NOT NULL,
    latency {blob} NOT NULL,
    PRIMARY KEY (grain, start_at, version_id, application_id, subscription_id, operation)
);
CREATE INDEX usage_rollup_by_api ON usage_rollup (api_id, grain, start_at);
CREATE INDEX usage_rollup_by_owner ON usage_rollup (owner_id, grain, start_at);
CREATE INDEX usage_rollup_by_application ON usage_rollup (application_id, grain, start_at);
CREATE INDEX usage_rollup_by_subscription ON usage_rollup (subscription_id, grain, start_at);

CREATE TABLE usage_position (
    stream TEXT PRIMARY KEY,
    segment BIGINT NOT NULL,
    byte_offset BIGINT NOT NULL
);
