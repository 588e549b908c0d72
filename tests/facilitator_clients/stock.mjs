// The facilitator client of @x402/core as it is: calls from stdin, what it made of the answers to stdout.
import { readFileSync } from "node:fs";
import { HTTPFacilitatorClient } from "@x402/core/server";

const { url, token, wrong, calls } = JSON.parse(readFileSync(0, "utf8"));
const client = (bearer) => {
  const headers = { Authorization: `Bearer ${bearer}` };
  return new HTTPFacilitatorClient({ url, createAuthHeaders: async () => ({ verify: headers, settle: headers, supported: headers }) });
};
const told = async (call) => call().catch((error) => ({ thrown: error.name, status: error.statusCode, message: error.message }));
const [tenant, stranger] = [client(token), client(wrong)];
const said = [await told(() => tenant.getSupported()), await told(() => stranger.getSupported())];
for (const { act, payment, requirements, by } of calls) {
  said.push(await told(() => (by === "stranger" ? stranger : tenant)[act](payment, requirements)));
}
console.log(JSON.stringify(said));
