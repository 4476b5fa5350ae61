-- Which cookie stands for a session of the portal, and when it was last used.
CREATE TABLE portal_session (
    session_id TEXT PRIMARY KEY,
    cookie_digest TEXT NOT NULL UNIQUE,
    seen_at BIGINT NOT NULL
);
