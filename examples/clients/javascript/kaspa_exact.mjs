// The scheme `exact` of kas402 for the x402 client: signs a transaction and never broadcasts it.
//
// The gateway broadcasts. A transaction that the network knew before the gateway did is served only
// with a proof of the payer's key.
import { bytesToHex, randomBytes } from "@noble/hashes/utils";
import { addressOf, coinsOf, pay, publicKeyOf, scriptOf } from "./kaspa.mjs";

const PREFIXES = { "kaspa:mainnet": "kaspa", "kaspa:testnet-10": "kaspatest", "kaspa:simnet": "kaspasim" };

export class ExactKaspaScheme {
  scheme = "exact";
  #secret;
  #node;

  // `secret` as 64 hex digits; `node` is the JSON wRPC URL of a node with --utxoindex.
  constructor(secret, node) {
    this.#secret = secret;
    this.#node = node;
  }

  async createPaymentPayload(x402Version, requirements, context) {
    const prefix = PREFIXES[requirements.network];
    if (!prefix || requirements.asset !== "KAS" || requirements.extra?.binding !== "kaspa-exact-v1") {
      throw new Error(`not a payment in KAS: ${JSON.stringify(requirements)}`);
    }
    const own = addressOf(prefix, publicKeyOf(this.#secret));
    const payTo = scriptOf(prefix, requirements.payTo);
    const coins = await coinsOf(this.#node, own);
    const payload = {
      type: "exact-transfer",
      payerAddress: own,
      transaction: pay(this.#secret, coins, payTo, BigInt(requirements.amount)),
      paymentOutputIndex: 0,
    };
    return { x402Version, payload, extensions: identify(context?.extensions) };
  }
}

// An identifier for the payment, where the server knows them. The client merges it with what was advertised.
function identify(advertised) {
  const name = "payment-identifier";
  return advertised?.[name] && { [name]: { info: { id: bytesToHex(randomBytes(16)) } } };
}
