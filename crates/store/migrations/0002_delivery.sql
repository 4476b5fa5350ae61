-- How the calls of a deployment are carried between clients and targets.
ALTER TABLE deployment ADD COLUMN delivery TEXT NOT NULL DEFAULT '{}';
