-- Which master key of the store a key is sealed under: the store can move from one to the next.

ALTER TABLE master_key ADD COLUMN number INTEGER NOT NULL DEFAULT 1;
ALTER TABLE key_lives ADD COLUMN sealed_under INTEGER NOT NULL DEFAULT 1;
