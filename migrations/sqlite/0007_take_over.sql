-- What a take-over of another program's database needs, and what keeps two servers from replacing each other's keys.

-- Keys that another program has made are kept longer than KEY_RETENTION says.
ALTER TABLE key_lives ADD COLUMN taken_over INTEGER NOT NULL DEFAULT 0;

-- The rotation policy of the server that started last, in whole seconds: one row. AUTOINCREMENT, because the file then
-- has the table sqlite_sequence, also if another program has made its tables without.
CREATE TABLE rotation_policy(
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id = 1),
    lifetime INTEGER NOT NULL,
    retention INTEGER NOT NULL,
    lead INTEGER NOT NULL,
    token_ttl INTEGER NOT NULL
);
CREATE TRIGGER rotation_policy_inserted AFTER INSERT ON rotation_policy BEGIN
    UPDATE key_changes SET number = number + 1;
END;
CREATE TRIGGER rotation_policy_updated AFTER UPDATE ON rotation_policy BEGIN
    UPDATE key_changes SET number = number + 1;
END;

-- Django writes argon2 before the hash, other programs {argon2} or {ARGON2ID}. The rest is a PHC string.
UPDATE users SET password_hash = substr(CAST(password_hash AS TEXT), 7)
WHERE CAST(password_hash AS TEXT) GLOB 'argon2$argon2*';
UPDATE users SET password_hash = substr(CAST(password_hash AS TEXT), instr(CAST(password_hash AS TEXT), '}$argon2') + 1)
WHERE CAST(password_hash AS TEXT) LIKE '{argon2%}$argon2%';
