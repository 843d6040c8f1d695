-- Public keys of others that are published beside our own. Each is sealed, so that whoever can only write to this file
-- cannot add one: what it verifies counts as ours.
CREATE TABLE uploaded_keys(
    kid TEXT PRIMARY KEY,
    jwk BLOB NOT NULL,
    exp INTEGER,                -- Unix seconds; nothing for one that stays until it is withdrawn
    uploaded_at INTEGER NOT NULL
);

CREATE TRIGGER uploaded_keys_inserted AFTER INSERT ON uploaded_keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER uploaded_keys_updated AFTER UPDATE ON uploaded_keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER uploaded_keys_deleted AFTER DELETE ON uploaded_keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
