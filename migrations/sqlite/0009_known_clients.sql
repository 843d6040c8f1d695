-- Whether a client has signed in to an account lately is one look-up, however long auth_logs is. It takes the same time for
-- every account, so it does not tell which names exist.
CREATE INDEX jwksd_auth_logs_user_ip ON auth_logs(user_id, request_ip, request_timestamp);
