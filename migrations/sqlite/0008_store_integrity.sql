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

-- The RFC 7638 thumbprint of each of our own keys; an empty one for a row that does not open. Imported and uploaded keys are
-- compared with them, so that one key is not published twice.
CREATE TABLE key_thumbprints(
    kid INTEGER PRIMARY KEY,
    thumbprint TEXT NOT NULL
);
CREATE INDEX key_thumbprints_thumbprint ON key_thumbprints(thumbprint);

-- Those of revoked keys, also when the key itself is gone.
CREATE TABLE revoked_thumbprints(
    thumbprint TEXT PRIMARY KEY
) WITHOUT ROWID;

-- The rows of keys whose thumbprints are not recorded yet: those from before this migration, and those of other programs.
CREATE TABLE keys_without_thumbprint(
    kid INTEGER PRIMARY KEY
);
INSERT INTO keys_without_thumbprint (kid) SELECT kid FROM keys;

CREATE TRIGGER keys_thumbprint_missing AFTER INSERT ON keys BEGIN
    DELETE FROM key_thumbprints WHERE kid = NEW.kid;
    INSERT OR IGNORE INTO keys_without_thumbprint (kid) VALUES (NEW.kid);
END;
CREATE TRIGGER keys_thumbprint_renumbered AFTER UPDATE OF kid ON keys WHEN NEW.kid <> OLD.kid BEGIN
    DELETE FROM key_thumbprints WHERE kid IN (OLD.kid, NEW.kid);
    DELETE FROM keys_without_thumbprint WHERE kid = OLD.kid;
    INSERT OR IGNORE INTO keys_without_thumbprint (kid) VALUES (NEW.kid);
END;
CREATE TRIGGER keys_thumbprint_deleted AFTER DELETE ON keys BEGIN
    DELETE FROM key_thumbprints WHERE kid = OLD.kid;
    DELETE FROM keys_without_thumbprint WHERE kid = OLD.kid;
END;
CREATE TRIGGER key_lives_thumbprint_missing AFTER DELETE ON key_lives BEGIN
    INSERT OR IGNORE INTO keys_without_thumbprint (kid) SELECT kid FROM keys WHERE kid = OLD.kid;
END;
CREATE TRIGGER key_thumbprints_recorded AFTER INSERT ON key_thumbprints BEGIN
    DELETE FROM keys_without_thumbprint WHERE kid = NEW.kid;
    INSERT OR IGNORE INTO revoked_thumbprints (thumbprint)
    SELECT NEW.thumbprint FROM key_lives
    WHERE kid = NEW.kid AND revoked_at IS NOT NULL AND NEW.thumbprint <> '';
END;
CREATE TRIGGER key_lives_revoked AFTER UPDATE OF revoked_at ON key_lives WHEN NEW.revoked_at IS NOT NULL BEGIN
    INSERT OR IGNORE INTO revoked_thumbprints (thumbprint)
    SELECT thumbprint FROM key_thumbprints WHERE kid = NEW.kid AND thumbprint <> '';
END;

-- The few keys that a round of the rotation needs are found without reading all that were kept.
CREATE INDEX jwksd_keys_exp ON keys(exp);
CREATE INDEX key_lives_alive ON key_lives(kid) WHERE expired_at IS NULL AND revoked_at IS NULL AND deleted_at IS NULL;
CREATE INDEX key_lives_revoked_kept ON key_lives(kid) WHERE revoked_at IS NOT NULL AND deleted_at IS NULL;
