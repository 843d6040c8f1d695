-- The algorithm of each key, and whether it is published under its number or its thumbprint: neither ever changes. Until now,
-- all keys were RS256 and published under their numbers.
ALTER TABLE key_lives ADD COLUMN alg TEXT NOT NULL DEFAULT 'RS256';
ALTER TABLE key_lives ADD COLUMN kid_format TEXT NOT NULL DEFAULT 'number';
