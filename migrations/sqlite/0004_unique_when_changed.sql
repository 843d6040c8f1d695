-- What must be unique stays so when an account is changed.

CREATE TRIGGER users_email_changed BEFORE UPDATE OF email ON users
WHEN EXISTS (SELECT 1 FROM users WHERE email = NEW.email COLLATE NOCASE AND id <> NEW.id) BEGIN
    SELECT RAISE(ABORT, 'users.email is taken');
END;

CREATE TRIGGER users_name_changed AFTER UPDATE OF username ON users
WHEN NEW.username <> OLD.username COLLATE NOCASE BEGIN
    INSERT INTO names_given (name) VALUES (NEW.username);
END;

-- A hash that was stored as a BLOB has a cost as well.
DROP VIEW users_hash_cost;
CREATE VIEW users_hash_cost(user_id, cost) AS
SELECT id, rtrim(without_hash, replace(without_hash, '$', '')) FROM (
    SELECT id, rtrim(rtrim(hash, replace(hash, '$', '')), '$') AS without_hash FROM (
        SELECT id, CAST(password_hash AS TEXT) AS hash FROM users
    )
);
DELETE FROM hash_costs;
INSERT INTO hash_costs (cost, accounts)
SELECT cost, count(*) FROM users_hash_cost WHERE cost LIKE '$argon2%' GROUP BY cost;
