-- What a specification is told apart by without reading it: SHA-256 of the document, in hex.
ALTER TABLE api_version ADD COLUMN specification_sha256 TEXT NOT NULL DEFAULT '';
