// What an exact payment needs of Kaspa: addresses, coins, and a signed transaction of version 0.
import { schnorr } from "@noble/curves/secp256k1";
import { blake2b } from "@noble/hashes/blake2";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils";
import WebSocket from "ws";

const CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS = [0x98f2bc8e61n, 0x79b76d99e2n, 0xf33e5fb3c4n, 0xae2eabe2a8n, 0x1e4f43e470n];
const SIGHASH_ALL = 1;
// Above the 2,036 grams of one input and two outputs, at the relay minimum of 100 sompi a gram.
const FEE = 250_000n;

export const publicKeyOf = (secret) => schnorr.getPublicKey(secret);

// The address of an x-only public key.
export function addressOf(prefix, publicKey) {
  const digits = regroup([0, ...publicKey], 8, 5, true);
  const sum = checksum(prefix, [...digits, 0, 0, 0, 0, 0, 0, 0, 0]);
  const tail = [7, 6, 5, 4, 3, 2, 1, 0].map((place) => Number((sum >> BigInt(5 * place)) & 31n));
  return `${prefix}:${[...digits, ...tail].map((digit) => CHARSET[digit]).join("")}`;
}

// The script that pays an address of this network. Refuses every other one, and a wrong checksum.
export function scriptOf(prefix, address) {
  const [found, text = ""] = address.split(":");
  const digits = [...text].map((letter) => CHARSET.indexOf(letter));
  if (found !== prefix || digits.includes(-1) || checksum(prefix, digits) !== 0n) throw new Error(`no ${prefix} address: ${address}`);
  const [version, ...payload] = regroup(digits.slice(0, -8), 5, 8, false);
  const script = { 0: [0x20, ...payload, 0xac], 1: [0x21, ...payload, 0xab], 8: [0xaa, 0x20, ...payload, 0x87] }[version];
  if (!script || payload.length !== (version === 1 ? 33 : 32)) throw new Error(`unknown kind of address: ${address}`);
  return Uint8Array.from(script);
}

// The unspent outputs of an address, from a node with --utxoindex and --rpclisten-json.
export function coinsOf(node, address) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(node);
    const ask = { id: 1, method: "getUtxosByAddresses", params: { addresses: [address] } };
    socket.onerror = () => reject(new Error(`no answer from ${node}`));
    socket.onclose = socket.onerror;
    socket.onopen = () => socket.send(JSON.stringify(ask));
    socket.onmessage = ({ data }) => {
      socket.close();
      const { params, error } = JSON.parse(data);
      if (error) return reject(new Error(JSON.stringify(error)));
      // Numbers above 2^53 were rounded by JSON.parse: 90 million KAS in one coin.
      const exact = params.entries.filter(({ utxoEntry }) => Number.isSafeInteger(utxoEntry.amount) && !utxoEntry.isCoinbase);
      resolve(exact.map(({ outpoint, utxoEntry }) => ({ ...outpoint, amount: BigInt(utxoEntry.amount) })));
    };
  });
}

// A signed transaction that pays `amount` from the greatest coin: the SDK's "safe" JSON, in hex.
export function pay(secret, coins, payTo, amount) {
  const own = Uint8Array.from([0x20, ...publicKeyOf(secret), 0xac]);
  const [coin] = [...coins].sort((a, b) => Number(b.amount - a.amount));
  const change = (coin?.amount ?? 0n) - amount - FEE;
  // Outputs as small as this weigh too much for one transaction (KIP-9).
  if (change < 2_000_000n) throw new Error("no coin is large enough; merge coins by sending to your own address");
  const outputs = [{ value: amount, script: payTo }, { value: change, script: own }];
  const digest = signatureHash(coin, own, outputs);
  const signature = concatBytes(schnorr.sign(digest, secret), Uint8Array.of(SIGHASH_ALL));
  const transaction = {
    version: 0,
    inputs: [{
      previousOutpoint: { transactionId: coin.transactionId, index: coin.index },
      signatureScript: bytesToHex(Uint8Array.of(signature.length, ...signature)),
      sequence: "0",
      sigOpCount: 1,
    }],
    outputs: outputs.map(({ value, script }) => ({ value: value.toString(), scriptPublicKey: { version: 0, script: bytesToHex(script) } })),
    lockTime: "0",
    subnetworkId: "00".repeat(20),
    gas: "0",
    payload: "",
  };
  return bytesToHex(utf8ToBytes(JSON.stringify(transaction)));
}

// What one input signs: every field of the transaction, and the coin it spends.
function signatureHash(coin, own, outputs) {
  const outpoint = concatBytes(hexToBytes(coin.transactionId), little(coin.index, 4));
  const script = (bytes) => concatBytes(little(0, 2), little(bytes.length, 8), bytes);
  const paid = concatBytes(...outputs.map((output) => concatBytes(little(output.value, 8), script(output.script))));
  const [sequence, operations, nothing] = [little(0, 8), Uint8Array.of(1), new Uint8Array(32)];
  return hash(
    little(0, 2), hash(outpoint), hash(sequence), hash(operations), outpoint, script(own), little(coin.amount, 8), sequence, operations,
    hash(paid), little(0, 8), new Uint8Array(20), little(0, 8), nothing, Uint8Array.of(SIGHASH_ALL),
  );
}

function hash(...parts) {
  return blake2b(concatBytes(...parts), { dkLen: 32, key: utf8ToBytes("TransactionSigningHash") });
}

function little(value, bytes) {
  return Uint8Array.from({ length: bytes }, (_, place) => Number((BigInt(value) >> BigInt(8 * place)) & 255n));
}

function checksum(prefix, digits) {
  let sum = 1n;
  for (const digit of [...[...prefix].map((letter) => letter.charCodeAt(0) & 31), 0, ...digits]) {
    const top = sum >> 35n;
    sum = ((sum & 0x07ffffffffn) << 5n) ^ BigInt(digit);
    GENERATORS.forEach((generator, bit) => (top >> BigInt(bit)) & 1n && (sum ^= generator));
  }
  return sum ^ 1n;
}

function regroup(values, from, to, pad) {
  let [held, bits] = [0, 0];
  const out = [];
  for (const value of values) {
    held = ((held << from) | value) & 0xffff;
    for (bits += from; bits >= to; ) out.push((held >> (bits -= to)) & ((1 << to) - 1));
  }
  if (pad && bits > 0) out.push((held << (to - bits)) & ((1 << to) - 1));
  return out;
}
