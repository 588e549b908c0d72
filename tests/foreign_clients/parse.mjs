// What the x402 packages make of answers: a list of {status, headers} on stdin, a list of what was read on stdout.
import { readFileSync } from "node:fs";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { validatePaymentRequired } from "@x402/core/schemas";

const http = new x402HTTPClient(new x402Client());

function read({ status, headers }) {
  const getHeader = (name) => headers[name];
  const found = { status: http.parsePaymentResult({ status, getHeader }).paymentStatus };
  if (getHeader("PAYMENT-REQUIRED")) found.required = validatePaymentRequired(http.getPaymentRequiredResponse(getHeader));
  if (getHeader("PAYMENT-RESPONSE")) found.receipt = http.getPaymentSettleResponse(getHeader);
  return found;
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(read)));
