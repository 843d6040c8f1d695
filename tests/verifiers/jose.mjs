import { createRemoteJWKSet, jwtVerify } from "jose";

const [url, algorithm, issuer, token] = process.argv.slice(2);
await jwtVerify(token, createRemoteJWKSet(new URL(url)), { algorithms: [algorithm], issuer });
