-- Plans may ask those who approve to sign, and agreements keep what was signed.
ALTER TABLE plan ADD COLUMN is_signed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN signatures TEXT NOT NULL DEFAULT '[]';
