-- What people are told of what concerns them. A notice that is also sent names the letter it is in.
CREATE TABLE notice (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    news TEXT NOT NULL,
    at BIGINT NOT NULL,
    read_at BIGINT,
    letter_id TEXT
);
CREATE INDEX notice_by_user ON notice (user_id, id);
CREATE INDEX notice_unread ON notice (user_id, id) WHERE read_at IS NULL;
CREATE INDEX notice_by_letter ON notice (letter_id, id) WHERE letter_id IS NOT NULL;
CREATE INDEX notice_by_age ON notice (at);

-- E-mails. One gathers notices until it is due, then waits to be sent, and ends as sent, dropped or failed.
CREATE TABLE letter (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    tried_since BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT,
    ended_at BIGINT
);
CREATE UNIQUE INDEX letter_gathering ON letter (user_id) WHERE status = 'gathering';
CREATE INDEX letter_due ON letter (due_at) WHERE status IN ('gathering', 'waiting');
CREATE INDEX letter_by_user ON letter (user_id, tried_since);
CREATE INDEX letter_ended ON letter (ended_at) WHERE ended_at IS NOT NULL;

-- One row: all events up to the number were told, and of the next that concerns people everybody up to the person.
CREATE TABLE notice_place (
    id BIGINT PRIMARY KEY,
    number BIGINT NOT NULL,
    reached TEXT NOT NULL
);
INSERT INTO notice_place (id, number, reached) SELECT 1, COALESCE(MAX(number), 0), '' FROM event;

CREATE TABLE notice_settings (
    user_id TEXT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

-- When the failing of an API was last spoken of.
CREATE TABLE alarm (
    api_id TEXT PRIMARY KEY REFERENCES api (id) ON DELETE CASCADE,
    at BIGINT NOT NULL
);

-- Work that one process does at a time.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    ends_at BIGINT NOT NULL
);

-- The one-time token of an invitation, sealed, for as long as it has to be written in a letter.
ALTER TABLE account ADD COLUMN sealed_invitation {blob};

-- How many days ahead it was last said that the credential expires.
ALTER TABLE credential ADD COLUMN expiry_said BIGINT;
CREATE INDEX credential_by_expiry ON credential (expires_at) WHERE expires_at IS NOT NULL;
