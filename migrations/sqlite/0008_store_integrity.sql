-- What a store must remember about tokens that were issued without a password.

-- The mode that the store is served in: 'open' or 'password'. No row before the first start.
CREATE TABLE serving_mode(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    mode TEXT NOT NULL
);

-- The keys that have signed in open mode: anyone could get their tokens, so they must not outlive that mode.
CREATE TABLE open_mode_keys(
    kid INTEGER PRIMARY KEY
);
CREATE TRIGGER open_mode_keys_deleted AFTER DELETE ON keys BEGIN
    DELETE FROM open_mode_keys WHERE kid = OLD.kid;
END;
