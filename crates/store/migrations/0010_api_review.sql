-- What people of subscribers say about APIs, one each.
CREATE TABLE api_review (
    id TEXT PRIMARY KEY,
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    author_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenant (id),
    stars BIGINT NOT NULL,
    words TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (api_id, author_id)
);
