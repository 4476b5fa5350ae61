-- The second factor of accounts: the sealed secret of one-time codes (RFC 6238), since when it is asked for, the last step
-- of which a code was taken, and a secret that waits for its first code.
ALTER TABLE account ADD COLUMN totp_secret {blob};
ALTER TABLE account ADD COLUMN totp_since BIGINT;
ALTER TABLE account ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN totp_next {blob};

-- Codes for when whatever makes one-time codes is lost, by their keyed hashes. One that was used is gone.
CREATE TABLE recovery_code (
    account_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (account_id, digest)
);
