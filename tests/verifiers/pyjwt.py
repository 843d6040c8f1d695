import sys

import jwt

url, algorithm, issuer, token = sys.argv[1:]
key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
jwt.decode(token, key, algorithms=[algorithm], issuer=issuer)
