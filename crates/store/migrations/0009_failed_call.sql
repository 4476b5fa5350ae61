-- Calls that failed lately, so that somebody who is told a request's id finds it. A bounded number of each API.
CREATE TABLE failed_call (
    id TEXT PRIMARY KEY,
    api_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    version_id TEXT NOT NULL,
    operation BIGINT NOT NULL,
    application_id TEXT NOT NULL,
    consumer_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    status BIGINT NOT NULL,
    fault TEXT NOT NULL,
    duration_micros BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX failed_call_by_api ON failed_call (api_id, id);
CREATE INDEX failed_call_by_application ON failed_call (application_id, id);
CREATE INDEX failed_call_by_age ON failed_call (at);
