-- Plans may ask those who approve to sign, and agreements keep what was signed.
ALTER TABLE plan ADD COLUMN is_signed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN signatures TEXT NOT NULL DEFAULT '[]';
-- The kinds of data that an agreement is about.
ALTER TABLE subscription ADD COLUMN data_categories TEXT NOT NULL DEFAULT '[]';
