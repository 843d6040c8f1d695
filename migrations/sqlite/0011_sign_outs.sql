-- When an operator signed an account out, in milliseconds since 1970: /verify and /introspect refuse its tokens that were
-- issued in that second or before.
CREATE TABLE sign_outs(
    user_id INTEGER PRIMARY KEY,
    signed_out_at INTEGER NOT NULL
);
