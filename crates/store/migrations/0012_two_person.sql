-- The first of two people who have to approve an agreement.
ALTER TABLE subscription ADD COLUMN first_approved_by TEXT;
ALTER TABLE subscription ADD COLUMN first_approved_at BIGINT;
