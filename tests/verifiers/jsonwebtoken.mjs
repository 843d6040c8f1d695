import { createPublicKey } from "node:crypto";
import jwt from "jsonwebtoken";

const [url, algorithm, issuer, token] = process.argv.slice(2);
const { keys } = await (await fetch(url)).json();
const { kid } = jwt.decode(token, { complete: true }).header;
const key = createPublicKey({ key: keys.find((key) => key.kid === kid), format: "jwk" });
jwt.verify(token, key, { algorithms: [algorithm], issuer });
