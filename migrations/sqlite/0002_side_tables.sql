-- What else must be remembered. The course's tables stay as they are.

-- The master key this store is sealed under: one row. check_value is a sealed constant, which tells a wrong
-- NOT_MY_KEY from a damaged row; salt is what a passphrase is stretched with.
CREATE TABLE master_key(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    salt BLOB NOT NULL,
    check_value BLOB NOT NULL
);

-- The life of each row of keys, in Unix milliseconds. A life is kept when its key is deleted, so that no kid comes
-- back; what has happened once (signs_since, expired_at, revoked_at) stays, whatever the clock says later.
CREATE TABLE key_lives(
    kid INTEGER PRIMARY KEY,
    made_at INTEGER NOT NULL,
    published_at INTEGER,
    signs_since INTEGER,
    expired_at INTEGER,
    revoked_at INTEGER,
    deleted_at INTEGER
);

-- Counts the changes to the keys, so that every process on the store notices those of the others.
CREATE TABLE key_changes(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
);
INSERT INTO key_changes (id, number) VALUES (1, 0);

CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER key_lives_inserted AFTER INSERT ON key_lives BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER key_lives_updated AFTER UPDATE ON key_lives BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER key_lives_deleted AFTER DELETE ON key_lives BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER master_key_updated AFTER UPDATE ON master_key BEGIN
    UPDATE key_changes SET number = number + 1;
END;

-- Every name ever given out, whatever became of its account: `sub` must stay one person.
CREATE TABLE names_given(
    name TEXT PRIMARY KEY COLLATE NOCASE
) WITHOUT ROWID;
INSERT OR IGNORE INTO names_given (name) SELECT username FROM users;

CREATE TRIGGER users_name_given AFTER INSERT ON users BEGIN
    INSERT INTO names_given (name) VALUES (NEW.username);
END;

-- Addresses are unique regardless of case. A trigger and no unique index, because a database that was taken over
-- may hold two that differ by case already.
CREATE INDEX users_username_nocase ON users(username COLLATE NOCASE);
CREATE INDEX users_email_nocase ON users(email COLLATE NOCASE);
CREATE TRIGGER users_email_unique BEFORE INSERT ON users
WHEN EXISTS (SELECT 1 FROM users WHERE email = NEW.email COLLATE NOCASE) BEGIN
    SELECT RAISE(ABORT, 'users.email is taken');
END;

-- How many accounts have a hash of which cost: checking the password of an unknown name is made to cost as much as
-- that of a known one. The cost is the hash up to its salt: cut off at the last $ but one, twice.
CREATE VIEW users_hash_cost(user_id, cost) AS
SELECT id, rtrim(without_hash, replace(without_hash, '$', '')) FROM (
    SELECT id, rtrim(rtrim(password_hash, replace(password_hash, '$', '')), '$') AS without_hash FROM users
);
CREATE TABLE hash_costs(
    cost TEXT PRIMARY KEY,
    accounts INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO hash_costs (cost, accounts)
SELECT cost, count(*) FROM users_hash_cost WHERE cost LIKE '$argon2%' GROUP BY cost;

CREATE TRIGGER users_cost_inserted AFTER INSERT ON users BEGIN
    INSERT INTO hash_costs (cost, accounts)
    SELECT cost, 1 FROM users_hash_cost WHERE user_id = NEW.id AND cost LIKE '$argon2%'
    ON CONFLICT (cost) DO UPDATE SET accounts = accounts + 1;
END;
CREATE TRIGGER users_cost_left BEFORE UPDATE OF password_hash ON users BEGIN
    UPDATE hash_costs SET accounts = accounts - 1
    WHERE cost = (SELECT cost FROM users_hash_cost WHERE user_id = OLD.id);
END;
CREATE TRIGGER users_cost_joined AFTER UPDATE OF password_hash ON users BEGIN
    INSERT INTO hash_costs (cost, accounts)
    SELECT cost, 1 FROM users_hash_cost WHERE user_id = NEW.id AND cost LIKE '$argon2%'
    ON CONFLICT (cost) DO UPDATE SET accounts = accounts + 1;
END;
CREATE TRIGGER users_cost_deleted BEFORE DELETE ON users BEGIN
    UPDATE hash_costs SET accounts = accounts - 1
    WHERE cost = (SELECT cost FROM users_hash_cost WHERE user_id = OLD.id);
END;
