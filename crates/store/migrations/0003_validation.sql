-- Whether requests are compared with the specification: off, warn or enforce.
ALTER TABLE deployment ADD COLUMN validation TEXT NOT NULL DEFAULT 'off';
