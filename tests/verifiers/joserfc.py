import json
import sys
import urllib.request

# Not the directory of this script, whose name is that of the library.
sys.path.pop(0)
from joserfc import jwt  # noqa: E402
from joserfc.jwk import KeySet  # noqa: E402

url, algorithm, issuer, token = sys.argv[1:]
with urllib.request.urlopen(url) as response:
    keys = KeySet.import_key_set(json.load(response))
decoded = jwt.decode(token, keys, algorithms=[algorithm])
jwt.JWTClaimsRegistry(iss={"essential": True, "value": issuer}).validate(decoded.claims)
