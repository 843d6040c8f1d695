-- What operating a store needs: accounts that may not sign in, and ways into auth_logs.

-- Accounts that are not simply active; times in Unix milliseconds. A deleted account leaves its row in users, without
-- an address, a hash or its name, so that auth_logs keep their links and its number is never another person's.
CREATE TABLE account_states(
    user_id INTEGER PRIMARY KEY REFERENCES users(id),
    disabled_at INTEGER,
    deleted_at INTEGER
);

-- By account, by address and by time, each in the order of time.
CREATE INDEX jwksd_auth_logs_user ON auth_logs(user_id, request_timestamp);
CREATE INDEX jwksd_auth_logs_ip ON auth_logs(request_ip, request_timestamp);
CREATE INDEX jwksd_auth_logs_time ON auth_logs(request_timestamp);
