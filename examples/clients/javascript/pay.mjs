// Fetches a URL and pays for it when asked: node pay.mjs URL MAX_SOMPI
//
// KASPA_SECRET_KEY and KASPA_NODE say who pays and which node knows the coins. A payment that is not
// decided is kept in a file beside, and the same command sends it again instead of paying twice.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client, x402HTTPClient } from "@x402/fetch";
import { ExactKaspaScheme } from "./kaspa_exact.mjs";

// Whether the payment stays good, and is to be sent again.
const undecided = ({ status, headers }) => [429, 500, 502, 503, 504].includes(status) || (status === 409 && headers.has("Retry-After"));

async function fetchPaid(url, maxSompi) {
  const kept = `${createHash("sha256").update(url).digest("hex").slice(0, 16)}.payment`;
  const client = new x402Client();
  const scheme = new ExactKaspaScheme(process.env.KASPA_SECRET_KEY, process.env.KASPA_NODE);
  client.register("kaspa:*", scheme);
  client.setSpendControls({ allowedAssets: [{ network: "kaspa:*", asset: "KAS", maxAmountPerPayment: maxSompi }] });
  const http = new x402HTTPClient(client);
  // On disk before it is sent.
  client.onAfterPaymentCreation(async ({ paymentPayload }) => {
    writeFileSync(kept, http.encodePaymentSignatureHeader(paymentPayload)["PAYMENT-SIGNATURE"]);
  });
  const again = () => fetch(url, { headers: { "PAYMENT-SIGNATURE": readFileSync(kept, "utf8") }, redirect: "manual" });

  let answer = existsSync(kept) ? await again() : await wrapFetchWithPayment(fetch, client)(url, { redirect: "manual" });
  for (let attempt = 0; attempt < 20; attempt++) {
    if (!existsSync(kept) || !undecided(answer)) break;
    await sleep(1000 * Number(answer.headers.get("Retry-After") ?? 1));
    answer = await again();
  }
  if (answer.ok) rmSync(kept, { force: true });
  return answer;
}

const answer = await fetchPaid(process.argv[2], process.argv[3]);
console.log(answer.status, await answer.text());
if (answer.headers.has("PAYMENT-RESPONSE")) {
  const receipt = decodePaymentResponseHeader(answer.headers.get("PAYMENT-RESPONSE"));
  console.log(`receipt: success=${receipt.success} amount=${receipt.amount} transaction=${receipt.transaction}`);
}
process.exitCode = answer.ok ? 0 : 1;
