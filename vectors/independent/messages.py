#!/usr/bin/env python3
"""Computes the vectors of messages without any code of the gateway: fingerprints, headers, offers, identifiers, paths,
receipts, transactions, and every value that has to be refused.

Only hashlib, hmac and whole numbers, as escrow_v1.py, whose curve and addresses it uses. Run it without arguments to write
the files again; `--check` compares instead and fails on any difference.
"""

import base64
import copy
import hashlib
import hmac
import json
import sys

import escrow_v1 as escrow

FOLDER = escrow.FOLDER.parent
SIMNET = "kaspa:simnet"


# ---------------------------------------------------------------- canonical JSON (RFC 8785), for ASCII keys and whole numbers


def canonical(value):
    """Keys of these vectors are ASCII and numbers are whole, so that Python prints them as JavaScript does."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def header(message):
    return base64.b64encode(canonical(message)).decode()


def canonical_hash(value):
    return escrow.h(canonical(value))


# ---------------------------------------------------------------- Kaspa transactions of version 0 (BLAKE2b, keyed by a domain)


def blake(domain, data):
    return hashlib.blake2b(data, digest_size=32, key=domain).digest()


def u(number, width=8):
    return int(number).to_bytes(width, "little")


def var(data):
    return u(len(data)) + data


def id_of_version_0(tx):
    """Of the SDK's transaction JSON; witnesses, signature operations and masses are no part of an id."""
    out = u(tx["version"], 2) + u(len(tx["inputs"]))
    for spend in tx["inputs"]:
        previous = spend["previousOutpoint"]
        out += bytes.fromhex(previous["transactionId"]) + u(previous["index"], 4) + var(b"") + u(spend["sequence"])
    out += u(len(tx["outputs"]))
    for output in tx["outputs"]:
        script = output["scriptPublicKey"]
        out += u(output["value"]) + u(script["version"], 2) + var(bytes.fromhex(script["script"]))
    out += u(tx["lockTime"]) + bytes.fromhex(tx["subnetworkId"]) + u(tx["gas"]) + var(bytes.fromhex(tx["payload"]))
    return blake(b"TransactionID", out).hex()


def borsh_of(tx):
    """The consensus transaction as its owner's node stores it, with whatever mass and id the sender likes."""
    out = u(tx["version"], 2) + u(len(tx["inputs"]), 4)
    for spend in tx["inputs"]:
        previous, witness = spend["previousOutpoint"], bytes.fromhex(spend["signatureScript"])
        out += bytes.fromhex(previous["transactionId"]) + u(previous["index"], 4)
        out += u(len(witness), 4) + witness + u(spend["sequence"])
        out += b"\x00" + u(spend["sigOpCount"], 1)
    out += u(len(tx["outputs"]), 4)
    for output in tx["outputs"]:
        script = bytes.fromhex(output["scriptPublicKey"]["script"])
        out += u(output["value"]) + u(output["scriptPublicKey"]["version"], 2) + u(len(script), 4) + script + b"\x00"
    payload = bytes.fromhex(tx["payload"])
    out += u(tx["lockTime"]) + bytes.fromhex(tx["subnetworkId"]) + u(tx["gas"]) + u(len(payload), 4) + payload
    return out


def storage_mass(spends, pays, parameter=10**12):
    """KIP-9, for outputs of one cell each."""
    harmonic = sum(parameter // amount for amount in pays)
    if len(pays) == 1 or len(spends) == 1 or len(pays) == len(spends) == 2:
        return max(0, harmonic - sum(parameter // amount for amount in spends))
    return max(0, harmonic - len(spends) * (parameter // (sum(spends) // len(spends))))


# ---------------------------------------------------------------- the hash in transaction ids of version 1 (BLAKE3, keyed by a domain)

START = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
SHUFFLE = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def words(data):
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def mix(v, a, b, c, d, x, y):
    turn = lambda value, by: (value >> by | value << (32 - by)) & 0xFFFFFFFF
    for word, by_d, by_b in ((x, 16, 12), (y, 8, 7)):
        v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
        v[d] = turn(v[d] ^ v[a], by_d)
        v[c] = (v[c] + v[d]) & 0xFFFFFFFF
        v[b] = turn(v[b] ^ v[c], by_b)


def blake3(domain, data):
    """The keyed hash of at most 1,024 bytes: one chunk."""
    assert len(data) <= 1024
    chain = words(domain.ljust(32, b"\0"))
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    for at, block in enumerate(blocks):
        flags = 16 | (1 if at == 0 else 0) | (2 | 8 if at == len(blocks) - 1 else 0)
        message = words(block.ljust(64, b"\0"))
        v = [*chain, *START[:4], 0, 0, len(block), flags]
        for _ in range(7):
            for step, columns in enumerate(COLUMNS_AND_DIAGONALS):
                mix(v, *columns, message[2 * step], message[2 * step + 1])
            message = [message[place] for place in SHUFFLE]
        chain = [v[place] ^ v[place + 8] for place in range(8)]
    return b"".join(u(word, 4) for word in chain)


# ---------------------------------------------------------------- the messages that are varied

SDK = json.loads((FOLDER / "sdk-transaction.json").read_text())
TX = SDK["plain"]
SHOP = escrow.p2pk(SIMNET, TX["outputs"][0]["scriptPublicKey"]["script"][2:66])
BUYER = escrow.p2pk(SIMNET, TX["outputs"][1]["scriptPublicKey"]["script"][2:66])
PRICE = str(TX["outputs"][0]["value"])


def sdk_hex(tx):
    return json.dumps(tx, separators=(",", ":")).encode().hex()


def exact_terms(extra=None, **changes):
    base = {
        "scheme": "exact", "network": SIMNET, "amount": PRICE, "asset": "KAS", "payTo": SHOP, "maxTimeoutSeconds": 60,
        "extra": {"binding": "kaspa-exact-v1", "finality": "accepted", "paymentFlow": "upfront", "offer": "v1"} | (extra or {}),
    }
    return base | changes


IDENTIFIER_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[A-Za-z0-9_-]+$"},
    },
    "required": ["required"],
}


def identifier(required=False, **info):
    return {"info": {"required": required} | info, "schema": IDENTIFIER_SCHEMA}


def exact_payment():
    return {
        "x402Version": 2,
        "resource": {"url": "https://api.example.com/report"},
        "accepted": exact_terms(),
        "payload": {
            "type": "exact-transfer",
            "payerAddress": BUYER,
            "transaction": SDK["plainHex"],
            "transactionId": SDK["transactionId"],
            "paymentOutputIndex": 0,
            "requestHash": "ab" * 32,
        },
        "extensions": {"payment-identifier": identifier(id="order-00000000000001")},
    }


CONFIG = escrow.config()
SCRIPT, LOCK = escrow.escrow_script(escrow.script_input())
FUNDING = {"txid": "0123456789abcdef" * 4, "index": 0}
FUNDED = 500_000_000


def voucher(amount, outpoint=FUNDING):
    given = {"network": SIMNET, "activeScriptPublicKey": LOCK.hex(), "outpoint": outpoint, "amount": str(amount)}
    return {"amount": str(amount), "signature": escrow.schnorr_sign(escrow.CLIENT_SECRET, escrow.voucher_digest(given)[1])}


def batch_payment(payload):
    terms = escrow.accepted()
    return {
        "x402Version": 2, "accepted": terms, "payload": payload,
        "extensions": {"payment-identifier": identifier(True, id="order-00000000000001")},
    }


def deposit():
    return batch_payment({
        "type": "deposit-voucher",
        "channelConfig": CONFIG,
        "channelId": escrow.channel_id(CONFIG)[1].hex(),
        "escrowAddress": escrow.address("kaspasim", 8, LOCK[4:36]),
        "fundingOutpoint": FUNDING,
        "fundingAmountSompi": str(FUNDED),
        "activeScriptPublicKey": LOCK.hex(),
        "voucher": voucher(1_000_000),
    })


def funded(**changes):
    """The output that funds the channel."""
    return {"value": FUNDED, "scriptPublicKey": {"version": 0, "script": LOCK[2:].hex()}} | changes


def deposit_of(tx, identify, index=0):
    """A deposit by this transaction, with a voucher for its output."""
    outpoint = {"txid": identify(tx), "index": index}
    return changed(deposit(), ("payload/fundingTransaction", sdk_hex(tx)), ("payload/fundingOutpoint", outpoint),
                   ("payload/voucher", voucher(1_000_000, outpoint)))


def spending(kind, **more):
    return batch_payment({
        "type": kind,
        "channelId": escrow.channel_id(CONFIG)[1].hex(),
        "fundingOutpoint": FUNDING,
        "activeScriptPublicKey": LOCK.hex(),
        "voucher": voucher(1_000_000),
    } | more)


def vouched():
    return spending("voucher", clientPublicKey=escrow.CLIENT)


def claimed():
    return spending("claim", claimAmount="900000")


def refunded():
    return spending("refund", refundAddress=escrow.p2pk(SIMNET, escrow.REFUND), refundAmount="400000000")


def state():
    return {
        "channelId": escrow.channel_id(CONFIG)[1].hex(), "activeOutpoint": FUNDING, "activeScriptPublicKey": LOCK.hex(),
        "fundingAmount": str(FUNDED), "chargedCumulativeAmount": "900000", "claimedCumulativeAmount": "0",
        "signedMaxClaimable": "1000000",
    }


def required(*accepts, **kaspa):
    extensions = {"payment-identifier": identifier()} | ({"kaspa": kaspa} if kaspa else {})
    return {
        "x402Version": 2, "resource": {"url": "https://api.example.com/report", "mimeType": "application/json"},
        "accepts": list(accepts), "extensions": extensions,
    }


def corrective():
    terms = escrow.accepted({"channelState": state(), "voucherState": voucher(1_000_000)})
    return required(terms, reason="voucher_amount")


def settled(**kaspa):
    return {
        "success": True, "transaction": SDK["transactionId"], "network": SIMNET, "payer": BUYER, "amount": PRICE,
        "extensions": {"kaspa": {"paymentOutputIndex": 0, "finality": "accepted"} | kaspa},
    }


COMMITMENT = escrow.commitment_id(escrow.commitment()).hex()


def called():
    return {"x402Version": 2, "paymentPayload": exact_payment(), "paymentRequirements": exact_terms()}


def supported():
    kind = lambda scheme, binding, modes: {
        "x402Version": 2, "scheme": scheme, "network": SIMNET, "extra": {"asset": "KAS", "binding": binding, "modes": modes},
    }
    kinds = [kind("exact", "kaspa-exact-v1", ["verify", "settle"]), kind("batch-settlement", "kaspa-escrow-v1", ["verify", "settle", "claim"])]
    return {"kinds": kinds, "extensions": [], "signers": {}}


def charged(**kaspa):
    return {
        "success": True, "transaction": COMMITMENT, "network": SIMNET, "amount": "900000",
        "extensions": {"kaspa": {"commitmentId": COMMITMENT, "chargedAmount": "900000", "channelState": state()} | kaspa},
    }


def provisional():
    kaspa = {"status": "provisional", "receiptUrl": "https://api.example.com/.well-known/kas402/receipts/x", "channelState": state()}
    return {"success": True, "transaction": "", "network": SIMNET, "amount": "1000000", "extensions": {"kaspa": kaspa}}


def pending():
    return {
        "success": False, "errorReason": "unexpected_settle_error", "transaction": SDK["transactionId"], "network": SIMNET,
        "extensions": {"kaspa": {"reason": "settlement_pending", "status": "pending"}},
    }


# ---------------------------------------------------------------- changes of a message

GONE = object()


def changed(message, *changes):
    """Each change is a path of member names and places, and what stands there then."""
    message = copy.deepcopy(message)
    for path, value in changes:
        *parents, last = path.split("/")
        at = message
        for part in parents:
            at = at[int(part) if isinstance(at, list) else part]
        if isinstance(at, list):
            last = int(last)
        if value is GONE:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value
    return message


# ---------------------------------------------------------------- the cases


def fingerprints():
    terms = exact_terms()
    cases = []
    for name, reason, method, url, body in [
        ("get", "nothing in the body", "GET", "https://api.example.com/report", None),
        ("empty-body", "an empty body is none: the same as get", "GET", "https://api.example.com/report", ""),
        ("query", "the query stands as it was received", "GET", "https://api.example.com/report?b=2&a=%20", None),
        ("post", "a body of text", "POST", "https://api.example.com/v1/chat", "{\"model\":\"small\"}"),
        ("unicode", "a body beyond ASCII", "POST", "https://api.example.com/v1/chat", "h\u00e9llo \U0001f600\n\"\\"),
        ("binary", "a body that is no UTF-8 enters by its hash", "PUT", "https://api.example.com/v1/file", {"sha256": escrow.h(b"\xff\x00").hex()}),
    ]:
        hashed = {"method": method, "url": url, "body": body or None, "paymentRequirementsHash": canonical_hash(terms).hex()}
        cases.append({
            "name": name, "reason": reason, "input": {"method": method, "url": url, "body": body, "accepted": terms},
            "expected": {"fingerprint": canonical_hash(hashed).hex()},
        })
    other = exact_terms({"offer": "v1.other"})
    hashed = {"method": "GET", "url": "https://api.example.com/report", "body": None, "paymentRequirementsHash": canonical_hash(other).hex()}
    cases.append({
        "name": "other-offer", "reason": "the offer is part of it",
        "input": {"method": "GET", "url": "https://api.example.com/report", "body": None, "accepted": other},
        "expected": {"fingerprint": canonical_hash(hashed).hex()},
    })
    yield "request-fingerprint", {"kind": "request-fingerprint", "cases": cases}

    cases = []
    for name, reason, given in [
        ("no-arguments", "a call without arguments hashes null", {}),
        ("null", "null is the same call", {"arguments": None}),
        ("empty", "an empty object is another one", {"arguments": {}}),
        ("arguments", "any JSON, keys sorted", {"arguments": {"b": [1, True, None], "a": {"y": "\u00e9", "x": "\U0001f600"}}}),
        ("other-tool", "another tool", {"toolName": "Render"}),
        ("other-audience", "another server", {"audience": "https://other.example.com/mcp"}),
        ("batch", "paid from a channel", {"accepted": escrow.accepted()}),
    ]:
        given = {"audience": "https://api.example.com/mcp", "toolName": "render"} | given
        given.setdefault("accepted", terms)
        hashed = {
            "scope": "kaspa:x402:mcp-tool-call:v2", "audience": given["audience"], "toolName": given["toolName"],
            "arguments": given.get("arguments"), "paymentRequirementsHash": canonical_hash(given["accepted"]).hex(),
        }
        cases.append({"name": name, "reason": reason, "input": given, "expected": {"fingerprint": canonical_hash(hashed).hex()}})
    yield "mcp-fingerprint", {"kind": "mcp-fingerprint", "cases": cases}


def finalities():
    levels = ["mempool", "accepted", "confirmed"]
    yield "finality", {"kind": "finality", "cases": [
        {"name": f"{actual}-for-{needed}", "reason": "a stronger level satisfies a weaker demand, never the reverse",
         "actual": actual, "required": needed, "expected": levels.index(actual) >= levels.index(needed)}
        for actual in levels for needed in levels
    ]}


def on_http():
    batch = escrow.accepted()
    for name, reason, offers, payment, receipt in [
        ("exact", "one transaction for one request", [exact_terms()], exact_payment(), settled()),
        ("exact-beside-channels", "two ways to pay, the second taken", [batch, exact_terms()], exact_payment(), settled(payer="x") | {"payer": BUYER}),
        ("exact-pending", "money may have moved: no new offer, the same header again", [exact_terms()], exact_payment(), pending()),
        ("deposit", "a channel is opened and charged", [batch], deposit(), charged(fundingAmount=str(FUNDED), fundingOutpoint=FUNDING, offer=batch)),
        ("voucher", "a request paid from a channel", [batch], vouched(), charged(offer=batch)),
        ("stream", "the charge is not known when the answer begins", [batch], vouched(), provisional()),
        ("least", "terms with nothing that may be left out", [changed(exact_terms(), ("extra", {"binding": "kaspa-exact-v1"}))],
         changed(exact_payment(), ("accepted/extra", {"binding": "kaspa-exact-v1"}), ("extensions", GONE), ("resource", GONE),
                 ("payload", {"type": "exact-transfer", "transaction": SDK["safeHex"], "paymentOutputIndex": 0})), settled()),
    ]:
        asked = required(*offers)
        yield f"x402-http/{name}", {
            "kind": "x402-http", "reason": reason, "paymentRequired": asked, "paymentPayload": payment, "settlementResponse": receipt,
            "headers": {"paymentRequired": header(asked), "paymentSignature": header(payment), "paymentResponse": header(receipt)},
        }


def claim_settled():
    claim = settled()
    claim["extensions"]["kaspa"] = {
        "claimOutpoint": {"txid": SDK["transactionId"], "index": 0}, "continuationOutpoint": {"txid": SDK["transactionId"], "index": 1},
        "channelState": state(),
    }
    return claim


def receipts():
    claim = claim_settled()
    failed = {"success": False, "errorReason": "invalid_transaction_state", "transaction": "", "network": SIMNET}
    valid = [
        ("exact", "settled by a transaction", settled()),
        ("charge", "charged to a channel: the transaction is the commitment", charged()),
        ("deposit", "charged with the deposit that opened the channel", charged(fundingAmount=str(FUNDED), fundingOutpoint=FUNDING)),
        ("offer-renewed", "the next request needs no 402", charged(offer=escrow.accepted())),
        ("nothing-charged", "a request that cost nothing is charged all the same", charged(chargedAmount="0") | {"amount": "0"}),
        ("claim", "a claim names what it made", claim),
        ("provisional", "a stream began", provisional()),
        ("pending", "the outcome is not known", pending()),
        ("failure", "nothing was settled", failed),
        ("failure-without-network", "the request named no network", {k: v for k, v in failed.items() if k != "network"}),
    ]
    invalid = [
        ("extra", "Kaspa data stands under extensions, never in a top-level extra", changed(settled(), ("extra", {}))),
        ("unknown-field", "a member that no settlement has", changed(settled(), ("settled", True))),
        ("no-success", "whether it succeeded", changed(settled(), ("success", GONE))),
        ("success-as-text", "success is true or false", changed(settled(), ("success", "true"))),
        ("no-transaction", "the transaction is always there, empty if need be", changed(settled(), ("transaction", GONE))),
        ("short-transaction", "an id has 32 bytes", changed(settled(), ("transaction", "ab"))),
        ("transaction-no-hex", "an id is hex", changed(settled(), ("transaction", "z" * 64))),
        ("success-without-network", "a success names its network", changed(settled(), ("network", GONE))),
        ("success-without-amount", "a success names its amount", changed(settled(), ("amount", GONE))),
        ("alias-network", "a network without its colon", changed(settled(), ("network", "testnet-10"))),
        ("amount-as-number", "an amount is a string", changed(settled(), ("amount", 25000000))),
        ("amount-with-zeros", "an amount is canonical", changed(settled(), ("amount", "025000000"))),
        ("empty-success", "only a stream succeeds without a transaction", changed(settled(), ("transaction", ""))),
        ("success-with-reason", "a success has no reason to fail", changed(settled(), ("errorReason", "invalid_payload"))),
        ("failure-without-reason", "a failure says why", changed(failed, ("errorReason", GONE))),
        ("commitment-without-charge", "a commitment says what it charged", changed(charged(), ("extensions/kaspa/chargedAmount", GONE))),
        ("commitment-without-state", "a commitment says where the channel stands", changed(charged(), ("extensions/kaspa/channelState", GONE))),
        ("deposit-without-commitment", "a deposit alone pays for nothing",
         changed(settled(), ("extensions/kaspa/fundingAmount", str(FUNDED)))),
        ("claim-without-continuation", "a claim says where the rest lies", changed(claim, ("extensions/kaspa/continuationOutpoint", GONE))),
        ("claim-without-outpoint", "a claim says what it paid", changed(claim, ("extensions/kaspa/claimOutpoint", GONE))),
        ("pending-without-transaction", "what is pending is a transaction", changed(pending(), ("transaction", ""))),
        ("pending-success", "what is pending did not succeed", changed(pending(), ("success", True), ("amount", "1"), ("errorReason", GONE))),
        ("provisional-charge", "a stream's charge is issued once, at its end", changed(provisional(), ("extensions/kaspa/chargedAmount", "1"))),
        ("provisional-failure", "a stream that failed did not begin", changed(provisional(), ("success", False), ("errorReason", "invalid_payload"))),
        ("provisional-without-url", "a stream says where its receipt will be", changed(provisional(), ("extensions/kaspa/receiptUrl", GONE))),
        ("unknown-status", "a status nobody knows", changed(pending(), ("extensions/kaspa/status", "maybe"))),
        ("state-without-field", "a channel's state is whole", changed(charged(), ("extensions/kaspa/channelState/signedMaxClaimable", GONE))),
        ("index-too-large", "an index has 32 bits", changed(settled(), ("extensions/kaspa/paymentOutputIndex", 2**32))),
    ]
    yield "settlement-response", {"kind": "settlement-response", "cases": [
        {"name": name, "reason": reason, "response": response, "expected": {"valid": truth}}
        for cases, truth in [(valid, True), (invalid, False)] for name, reason, response in cases
    ]}


def in_upper_case(message, *paths):
    """The same bytes: hex is read in either case."""
    for path in paths:
        at = message
        for part in path.split("/"):
            at = at[part]
        message = changed(message, (path, at.upper()))
    return message


def right():
    """What every schema takes, at its bounds and with all that may be left out."""
    exact, batch, call = exact_payment(), escrow.accepted(), called()
    proof = lambda kind: changed(exact, ("extensions/kaspa", {"payerProof": {"type": kind, "publicKey": "ab" * 32, "signature": "cd" * 64}}))
    named = lambda text: changed(exact, ("extensions/payment-identifier/info/id", text))
    theirs = changed(exact_terms(), ("extra", {"binding": "kaspa-exact-v1", "finality": "confirmed", "tier": {"theirs": 1}}))
    shop = {network: escrow.p2pk(network, escrow.PAYOUT) for network in ["kaspa:mainnet", "kaspa:testnet-10", SIMNET]}
    for schema, name, reason, value in [
        ("payment-payload", "exact", "one transaction", exact),
        ("payment-payload", "exact-upper-case", "hex in capitals is the same",
         in_upper_case(exact, "payload/transaction", "payload/transactionId", "payload/requestHash")),
        ("payment-payload", "exact-safe", "the SDK's other JSON, its numbers as texts", changed(exact, ("payload/transaction", SDK["safeHex"]))),
        ("payment-payload", "exact-without-hints", "hints may be left out",
         changed(exact, ("payload/payerAddress", GONE), ("payload/transactionId", GONE), ("payload/requestHash", GONE), ("resource", GONE))),
        ("payment-payload", "proof-schnorr", "the payer's key over the request", proof("schnorr")),
        ("payment-payload", "proof-personal-message", "a wallet's signature of it as a message", proof("personal-message")),
        ("payment-payload", "identifier-shortest", "sixteen characters", named("Az09_-Az09_-Az09")),
        ("payment-payload", "identifier-longest", "a hundred and twenty-eight", named("a" * 128)),
        ("payment-payload", "exact-most-inputs", "as many inputs as are looked at", payment_of(many_inputs(256))),
        ("payment-payload", "exact-most-outputs", "as many outputs as are looked at", payment_of(many_outputs(64))),
        ("payment-payload", "deposit", "a channel begins", deposit()),
        ("payment-payload", "deposit-with-transaction", "with the transaction that funds it", deposit_of(changed(TX, ("outputs", [funded()])), id_of_version_0)),
        ("payment-payload", "deposit-upper-case", "hex in capitals is the same",
         in_upper_case(deposit(), "payload/channelId", "payload/activeScriptPublicKey", "payload/voucher/signature", "payload/channelConfig/salt",
                       "payload/channelConfig/clientPublicKey", "payload/channelConfig/serverPublicKey", "accepted/extra/serverPublicKey")),
        ("payment-payload", "voucher", "a request from a channel", vouched()),
        ("payment-payload", "claim", "the server takes what it is owed", claimed()),
        ("payment-payload", "refund", "the client takes back the rest", refunded()),
        ("kaspa-payment-payload", "payload-exact", "the payload alone", exact["payload"]),
        ("kaspa-payment-payload", "payload-deposit", "the payload alone", deposit()["payload"]),
        ("kaspa-payment-payload", "payload-voucher", "the payload alone", vouched()["payload"]),
        ("kaspa-payment-payload", "payload-claim", "the payload alone", claimed()["payload"]),
        ("kaspa-payment-payload", "payload-refund", "the payload alone", refunded()["payload"]),
        *[("payment-requirements", f"terms-{network.split(':')[1]}", "an address of its network", exact_terms(network=network, payTo=payee))
          for network, payee in shop.items()],
        ("payment-requirements", "terms-nothing", "no sompi is an amount", exact_terms(amount="0")),
        ("payment-requirements", "terms-supply", "all there is is an amount", exact_terms(amount="2900000000000000000")),
        ("payment-requirements", "terms-patience", "the largest number that every reader prints alike", exact_terms(maxTimeoutSeconds=2**53 - 1)),
        *[("payment-requirements", f"terms-{level}", "a level of finality", exact_terms({"finality": level})) for level in ["mempool", "confirmed"]],
        ("payment-requirements", "terms-batch", "a channel", batch),
        ("payment-requirements", "terms-batch-timeouts", "the last score before timestamps", escrow.accepted({"refundTimeoutDaa": "499999999999"})),
        ("payment-requirements", "terms-batch-policy", "when it is claimed, for people", escrow.accepted({"claimPolicy": "daily"})),
        ("kaspa-requirements-extra", "extra-exact", "the least of exact", {"binding": "kaspa-exact-v1"}),
        ("kaspa-requirements-extra", "extra-batch", "of a channel", batch["extra"]),
        ("payment-required", "required", "an offer", required(exact_terms())),
        ("payment-required", "required-refused", "why, and another offer", required(exact_terms(), batch, reason="offer_expired") | {"error": "offer_expired"}),
        ("corrective-402", "corrective", "where the channel stands", corrective()),
        ("corrective-402", "corrective-nothing-signed", "after a claim nothing is signed",
         changed(corrective(), ("accepts/0/extra/voucherState", {"amount": "0"}))),
        ("channel-state", "state", "a channel's amounts", state()),
        ("settlement-response", "settled", "by a transaction", settled()),
        ("settlement-response", "claimed", "a claim", claim_settled()),
        ("facilitator-request", "call", "what a resource server asks", call),
        ("facilitator-request", "call-whole", "with all it may have",
         call | {"resource": {"url": "https://shop.example/report"}, "requestHash": "AB" * 32}),
        ("facilitator-request", "call-their-terms", "another resource server's own members",
         changed(call, ("paymentRequirements", theirs), ("paymentPayload/accepted", theirs), ("paymentPayload/extensions", GONE))),
        ("facilitator-request", "call-channel", "from a channel", {"x402Version": 2, "paymentPayload": vouched(), "paymentRequirements": batch}),
        ("facilitator-supported", "supported", "what it does", supported()),
        ("facilitator-verify-response", "valid", "good now", {"isValid": True, "payer": BUYER, "extensions": {"kaspa": {}}}),
        ("facilitator-verify-response", "invalid", "and why", {
            "isValid": False, "invalidReason": "invalid_payload", "invalidMessage": "the signature",
            "extensions": {"kaspa": {"reason": "voucher_signature"}},
        }),
        ("facilitator-settle-response", "settled-for-a-tenant", "settled", settled()),
        ("facilitator-settle-response", "refused-for-a-tenant", "refused, in words too",
         {"success": False, "errorReason": "invalid_payload", "transaction": "", "network": SIMNET, "errorMessage": "the signature"}),
    ]:
        yield {"name": name, "reason": reason, "schema": schema, "value": value}


def payment_of(tx, **payload):
    """A payment by another transaction than the published one."""
    return changed(exact_payment(), ("payload/transaction", tx if isinstance(tx, str) else sdk_hex(tx)), ("payload/transactionId", GONE),
                   *((f"payload/{name}", value) for name, value in payload.items()))


def many_inputs(count):
    tx = changed(TX, ("inputs", [changed(TX["inputs"][0], ("signatureScript", "")) for _ in range(count)]))
    return (borsh_of(tx) + u(0) + bytes(32)).hex()


def many_outputs(count):
    return changed(TX, ("outputs", [*TX["outputs"], *[TX["outputs"][1] | {"value": 1000 + n} for n in range(count - 2)]]))


def locked(lock_time, sequence):
    return changed(TX, ("lockTime", lock_time), ("inputs/0/sequence", sequence))


REQUEST = {"method": "POST", "url": "https://api.example.com/v1/chat", "body": "{\"model\":\"small\"}"}


def hash_of(request, terms):
    return canonical_hash(request | {"body": request["body"] or None, "paymentRequirementsHash": canonical_hash(terms).hex()})


def proven(secret, request=REQUEST, kind="schnorr", **changes):
    """A payment with the proof of a key over the request."""
    digest = hash_of(request, exact_terms())
    message = blake(b"PersonalMessageSigningHash", digest.hex().encode()) if kind == "personal-message" else digest
    proof = {"type": kind, "publicKey": escrow.public_key(secret), "signature": escrow.schnorr_sign(secret, message)} | changes
    return changed(exact_payment(), ("payload/requestHash", GONE), ("extensions/kaspa", {"payerProof": proof}))


PAYER, STRANGER = 0x5555, 0x6666


def owned(*secrets):
    """The scripts of outputs of these owners, as a node serializes them."""
    return ["000020" + escrow.public_key(secret) + "ac" for secret in secrets]


def by_facts():
    """What else has to be known: the request that is paid for, the score of the network, the outputs that are spent."""
    hashed = lambda request, terms=None: changed(exact_payment(), ("payload/requestHash", hash_of(request, terms or exact_terms()).hex()))
    unhashed = changed(exact_payment(), ("payload/requestHash", GONE))
    get = {"method": "GET", "url": "https://api.example.com/report", "body": None}
    spent = {"request": REQUEST, "spentScripts": owned(STRANGER, PAYER)}
    for name, reason, value, facts in [
        ("request-hash", "the hash of this very request", hashed(REQUEST), {"request": REQUEST}),
        ("request-hash-required", "where it has to be there", hashed(get), {"request": get, "requestHashRequired": True}),
        ("request-hash-upper-case", "hex in either case", in_upper_case(hashed(REQUEST), "payload/requestHash"), {"request": REQUEST}),
        ("request-hash-absent", "and where it need not", unhashed, {"request": REQUEST}),
        ("proof-by-the-payer", "the key of an input, over this request", proven(PAYER), spent),
        ("proof-by-a-wallet", "the same as a personal message", proven(PAYER, kind="personal-message"), spent),
        ("locked-before", "the lock time is over", payment_of(locked(1_000, 0)), {"daaScore": "1001"}),
        ("locked-final", "final sequences put a lock time out of force", payment_of(locked(2_000, 2**64 - 1)), {"daaScore": "1001"}),
    ]:
        yield {"name": name, "reason": reason, "schema": "payment-payload", "value": value, "facts": facts}


def positives():
    yield "positive", {"kind": "positive", "cases": [*right(), *by_facts()]}


def headers():
    text = lambda value: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
    cases = [
        {"name": name, "reason": reason, "input": {"header": given}, "expected": {"message": json.loads(base64.b64decode(given))}}
        for name, reason, given in [
            ("object", "what is canonical", text('{"a":1}')),
            ("padded", "two signs of padding", text('{"a":"b"}\n')),
            ("space", "white space and order do not matter to a reader", text(' { "b" : 1 ,\n"a" : [ ] } ')),
            ("escapes", "an escaped letter is the letter", text('{"\\u0061":"\\u00e9"}')),
            ("unicode", "UTF-8 stands as it is", text('{"\u00e9":"\U0001f600"}')),
            ("deepest", "as deep as may be", text("[" * 32 + "]" * 32)),
        ]
    ]
    not_base64, not_json = "payment_header_not_base64", "payment_header_not_json"
    cases += [
        {"name": name, "reason": reason, "input": {"header": given}, "expected": {"error": code}}
        for name, reason, given, code in [
            ("without-padding", "padding is not left out", "eyJhIjoxfQ", not_base64),
            ("too-much-padding", "nor is there more of it", "eyJhIjoxfQ===", not_base64),
            ("url-alphabet", "the other alphabet", "eyJhIjoiPz8_In0=", not_base64),
            ("loose-bits", "bits that say nothing are zero", "eyJhIjoxfR==", not_base64),
            ("white-space", "no white space", "eyJh IjoxfQ==", not_base64),
            ("line-break", "no line breaks", "eyJhIjoxfQ==\n", not_base64),
            ("plain", "no JSON as it is", '{"a":1}', not_base64),
            ("too-long", "longer than any that is read", "A" * (128 * 1024 + 4), "payment_header_too_large"),
            ("empty", "nothing is no JSON", "", not_json),
            ("no-json", "a word", text("word"), not_json),
            ("duplicate", "a key twice", text('{"a":1,"a":2}'), not_json),
            ("duplicate-escaped", "a key twice, once in disguise", text('{"a":1,"\\u0061":2}'), not_json),
            ("duplicate-deep", "a key twice further in", text('{"a":[{"b":1,"b":1}]}'), not_json),
            ("trailing", "two documents", text('{"a":1}{}'), not_json),
            ("too-deep", "deeper than may be", text("[" * 33 + "]" * 33), not_json),
            ("byte-order-mark", "JSON has none", text("\ufeff{}"), not_json),
            ("not-utf-8", "text is UTF-8", text(b'{"a":"\xff"}'), not_json),
            ("half-a-pair", "half a surrogate pair is no text", text('{"a":"\\ud800"}'), not_json),
            ("huge-number", "a number that nothing holds", text('{"a":1e999}'), not_json),
            ("comment", "no comments", text('{"a":1/**/}'), not_json),
            ("trailing-comma", "no comma before the end", text('{"a":1,}'), not_json),
        ]
    ]
    yield "header-decode", {"kind": "header-decode", "cases": cases}


def identifiers():
    cases = []
    for name, reason, needed, extensions, expected in [
        ("none", "not required and not sent", False, {}, {"identifier": None}),
        ("missing", "required and not sent", True, {}, {"error": "payment_identifier_required"}),
        ("sixteen", "the shortest", True, {"payment-identifier": identifier(True, id="a" * 16)}, {"identifier": "a" * 16}),
        ("longest", "128 characters", True, {"payment-identifier": identifier(True, id="aZ09-_bb" * 16)}, {"identifier": "aZ09-_bb" * 16}),
        ("fifteen", "one too short", True, {"payment-identifier": identifier(True, id="a" * 15)}, {"error": "payment_identifier_malformed"}),
        ("too-long", "one too long", True, {"payment-identifier": identifier(True, id="a" * 129)}, {"error": "payment_identifier_malformed"}),
        ("alphabet", "a letter outside the alphabet", True, {"payment-identifier": identifier(True, id="a" * 15 + ".")}, {"error": "payment_identifier_malformed"}),
        ("number", "a number is no identifier", True, {"payment-identifier": identifier(True, id=1234567890123456)}, {"error": "payment_identifier_malformed"}),
        ("without-id", "echoed, and no id added", True, {"payment-identifier": identifier(True)}, {"error": "payment_identifier_required"}),
        ("optional-without-id", "echoed where it is not required", False, {"payment-identifier": identifier(False)}, {"identifier": None}),
        ("info-not-echoed", "an advertised field is changed", True, {"payment-identifier": identifier(False, id="a" * 16)}, {"error": "payment_identifier_not_echoed"}),
        ("schema-not-echoed", "the schema is changed", True, {"payment-identifier": identifier(True, id="a" * 16) | {"schema": {}}}, {"error": "payment_identifier_not_echoed"}),
        ("info-added", "further fields of info may stand there", True, {"payment-identifier": identifier(True, id="a" * 16, more=1)}, {"identifier": "a" * 16}),
        ("no-info", "nothing is echoed", True, {"payment-identifier": {"schema": IDENTIFIER_SCHEMA}}, {"error": "payment_identifier_not_echoed"}),
    ]:
        cases.append({"name": name, "reason": reason, "input": {"required": needed, "extensions": extensions}, "expected": expected})
    yield "payment-identifier", {"kind": "payment-identifier", "cases": cases}


UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def normal_form(path, slashes):
    """RFC 3986 section 6.2.2, and None for what two servers may read in two ways."""
    if not path.startswith("/") or not path.isascii():
        return None
    out, plain, at = "", bytearray(), 0
    while at < len(path):
        letter = path[at]
        if letter != "%":
            if not "!" <= letter <= "~" or letter in "\\#?":
                return None
            out, at = out + letter, at + 1
            plain.append(ord(letter))
            continue
        digits = path[at + 1 : at + 3]
        if len(digits) < 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            return None
        byte = int(digits, 16)
        if byte < 32 or byte in b"\\\x7f" or (byte == ord("/") and not slashes):
            return None
        out, at = out + (chr(byte) if byte in UNRESERVED else f"%{byte:02X}"), at + 3
        plain.append(byte)
    try:
        plain.decode()
    except UnicodeDecodeError:
        return None
    kept, last = [], ""
    for last in out.split("/"):
        if last == "..":
            kept = kept[:-1]
        elif last not in ("", "."):
            kept.append(last)
    return "/" + "/".join(kept) + ("/" if kept and last in ("", ".", "..") else "")


def paths():
    cases = []
    for path, reason, slashes in [
        ("/", "the root", False), ("/a", "nothing to do", False), ("/a/", "a folder is no file", False), ("/%61%2D%2e%5F%7e", "unreserved characters are decoded", False),
        ("/a%3ab", "other escapes become upper case", False), ("/a:b", "and stay told apart from what was not escaped", False), ("/a%c3%a9", "UTF-8 stays escaped", False),
        ("//a///b", "empty segments vanish", False), ("/a//", "the last one is a folder", False), ("/./a/./b/.", "single dots vanish", False), ("/a/../b", "double dots climb", False),
        ("/../../etc", "not above the root", False), ("/a/%2e%2E/b", "escaped dots are dots", False), ("/...", "three dots are a name", False), ("/a%252e", "an escaped percent sign is not decoded twice", False),
        ("/a%2fb", "an escaped slash where it is allowed", True), ("/a/..%2fb", "and is never a separator", True),
        ("", "nothing", False), ("a", "not absolute", False), ("http://x/a", "an absolute URL", False), ("/a%2Fb", "an escaped slash", False), ("/a%5Cb", "an escaped backslash", False),
        ("/a%00", "a zero byte", False), ("/a%0d%0ab", "a line break", False), ("/a%7f", "a control character", False), ("/a\\b", "a backslash", False), ("/a b", "a space", False), ("/a#b", "a fragment", False),
        ("/a?b", "a query is no path", False), ("/\u00e9", "a bare letter beyond ASCII", False), ("/%", "a lone percent sign", False), ("/%2", "half an escape", False), ("/%zz", "no hex", False),
        ("/%c0%af", "an overlong slash", False), ("/%e9", "not UTF-8", False), ("/%ed%a0%80", "a surrogate", False), ("/a%5cb", "a backslash even where slashes are allowed", True),
    ]:
        normal = normal_form(path, slashes)
        expected = {"error": "path_malformed"} if normal is None else {"path": normal}
        cases.append({"name": path, "reason": reason, "input": {"path": path, "encodedSlashes": slashes}, "expected": expected})
    yield "path-normal-form", {"kind": "path-normal-form", "cases": cases}


def hkdf(salt, key, info):
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")


def url64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def offer_token(given):
    key = hkdf(bytes.fromhex(given["storeId"]), bytes.fromhex(given["offerKey"]), b"kas402/offer/v1")
    numbers = [int(given[name]) for name in ("issued", "expiry", "daa")]
    nonce = bytes.fromhex(given["nonce"])
    parts = [b"kas402/offer/v1", canonical(given["terms"]), given["origin"], given["routeId"], given["ruleId"]]
    parts += [text for pair in given["inputs"] for text in pair]
    parts += [given["kid"]] + [u(number) for number in numbers] + [nonce]
    parts = [part.encode() if isinstance(part, str) else part for part in parts]
    mac = hmac.digest(key, b"".join(u(len(part)) + part for part in parts), "sha256")
    fields = [given["kid"].encode()] + [number.to_bytes(8, "big") for number in numbers] + [nonce, mac]
    return "v1." + ".".join(url64(field) for field in fields)


def offers():
    base = {
        "offerKey": "07" * 32, "kid": "a", "storeId": "01" * 16, "terms": exact_terms({"offer": ""}), "origin": "https://api.example.com",
        "routeId": "report", "ruleId": "price", "inputs": [["json:/model", "small"]], "issued": "1700000000", "expiry": "1700000060",
        "daa": "123456", "nonce": "09" * 16,
    }
    cases = []
    for name, reason, change in [
        ("base", "one input set the price", {}),
        ("no-inputs", "a price that depends on nothing", {"inputs": []}),
        ("two-inputs", "each with its name and value", {"inputs": [["json:/model", "small"], ["header:x-size", "2"]]}),
        ("other-value", "a quote for another request", {"inputs": [["json:/model", "large"]]}),
        ("other-split", "lengths tell fields apart: the same letters, split elsewhere", {"inputs": [["json:/modelsmall", ""]]}),
        ("other-store", "an offer of another store", {"storeId": "02" * 16}),
        ("other-key", "another key under the same name", {"offerKey": "08" * 32}),
        ("other-terms", "another price", {"terms": exact_terms({"offer": ""}, amount="1")}),
        ("other-origin", "another host", {"origin": "https://other.example.com"}),
        ("other-route", "another route", {"routeId": "reports"}),
        ("other-rule", "another rule", {"ruleId": "prices"}),
        ("other-nonce", "another offer", {"nonce": "0a" * 16}),
        ("other-expiry", "a longer life", {"expiry": "1700000061"}),
        ("other-score", "made a block later", {"daa": "123457"}),
        ("batch", "terms of a channel", {"terms": escrow.accepted({"offer": ""})}),
    ]:
        given = base | change
        cases.append({"name": name, "reason": reason, "input": given, "expected": {"token": offer_token(given)}})
    cases += presented(base)
    yield "offer-mac", {"kind": "offer-mac", "cases": cases}


def presented(base):
    """Tokens that come back, and what a gateway says to one that it has never seen paid."""
    own = ("issued", "expiry", "daa", "nonce")
    token, late = offer_token(base), int(base["expiry"])
    parts = token.split(".")
    part = lambda at, text: ".".join([*parts[:at], text, *parts[at + 1 :]])
    fields = lambda **change: offer_token(base | change).rsplit(".", 1)[0] + "." + parts[6]
    known = {name: value for name, value in base.items() if name not in own} | {"now": base["issued"]}
    malformed, unknown, not_ours, expired = "offer_malformed", "offer_key_unknown", "offer_not_ours", "offer_expired"
    for name, reason, text, change, error in [
        ("presented", "the offer as it was made", token, {}, None),
        ("presented-last-moment", "five seconds of grace for clocks", token, {"now": str(late + 5)}, None),
        ("presented-key-ends", "a key verifies to its last moment", token, {"now": str(late), "notAfter": str(late)}, None),
        ("presented-early", "a clock behind the one that signed refuses nothing", token, {"now": "0"}, None),
        ("refused-late", "a second after the grace", token, {"now": str(late + 6)}, expired),
        ("refused-key-ended", "its key has ended", token, {"now": str(late), "notAfter": str(late - 1)}, unknown),
        ("refused-key-name", "a key of another name", token, {"kid": "b"}, unknown),
        ("refused-key", "another key of the same name", token, {"offerKey": "08" * 32}, not_ours),
        ("refused-store", "an offer of another store", token, {"storeId": "02" * 16}, not_ours),
        ("refused-terms", "another price", token, {"terms": exact_terms({"offer": ""}, amount="1")}, not_ours),
        ("refused-origin", "another host", token, {"origin": "https://other.example.com"}, not_ours),
        ("refused-route", "another route", token, {"routeId": "reports"}, not_ours),
        ("refused-rule", "another rule", token, {"ruleId": "prices"}, not_ours),
        ("refused-value", "a cheap quote for a dear request", token, {"inputs": [["json:/model", "large"]]}, not_ours),
        ("refused-input-gone", "without what set the price", token, {"inputs": []}, not_ours),
        ("refused-input-more", "with another input", token, {"inputs": [["json:/model", "small"], ["header:x-size", "2"]]}, not_ours),
        ("refused-longer-life", "its holder moved the end", fields(expiry=str(late + 3600)), {}, not_ours),
        ("refused-issued", "or the beginning", fields(issued="1700000001"), {}, not_ours),
        ("refused-score", "or the score", fields(daa="1"), {}, not_ours),
        ("refused-nonce", "or the nonce", fields(nonce="0a" * 16), {}, not_ours),
        ("refused-kid", "or the name of the key", fields(kid="b"), {"kid": "b"}, not_ours),
        ("refused-mac", "one bit of the MAC", part(6, url64(bytes([base64.urlsafe_b64decode(parts[6] + "=")[0] ^ 1]) + base64.urlsafe_b64decode(parts[6] + "=")[1:])), {}, not_ours),
        ("refused-empty", "no token", "", {}, malformed),
        ("refused-version", "another version", part(0, "v2"), {}, malformed),
        ("refused-version-alone", "nothing but a version", "v1", {}, malformed),
        ("refused-short", "a part is missing", token.rsplit(".", 1)[0], {}, malformed),
        ("refused-more", "a part too many", token + ".AA", {}, malformed),
        ("refused-padding", "no padding", part(6, parts[6] + "="), {}, malformed),
        ("refused-alphabet", "the alphabet of URLs", part(6, "+" + parts[6][1:]), {}, malformed),
        ("refused-loose-bits", "bits that say nothing are zero", part(1, "YR"), {}, malformed),
        ("refused-narrow-number", "numbers have eight bytes", part(2, url64(bytes(7))), {}, malformed),
        ("refused-wide-number", "numbers have eight bytes", part(3, url64(bytes(9))), {}, malformed),
        ("refused-short-nonce", "a nonce has sixteen bytes", part(5, url64(bytes(15))), {}, malformed),
        ("refused-short-mac", "a MAC has thirty-two bytes", part(6, url64(bytes(31))), {}, malformed),
        ("refused-key-name-no-text", "the name of a key is text", part(1, url64(b"\xff")), {}, malformed),
        ("refused-too-long", "longer than any", part(1, url64(b"a" * 384)), {}, malformed),
    ]:
        given = known | change | {"token": text}
        expected = {"error": error} if error else {"acceptedUntil": str(late + 5)}
        yield {"name": name, "reason": reason, "input": given, "expected": expected}


def told(tx):
    serialized = lambda script: f"{script['version']:04x}" + script["script"]
    return {
        "transactionId": id_of_version_0(tx),
        "version": tx["version"],
        "spends": [{"txid": i["previousOutpoint"]["transactionId"], "index": i["previousOutpoint"]["index"]} for i in tx["inputs"]],
        "outputs": [{"amount": str(o["value"]), "scriptPublicKey": serialized(o["scriptPublicKey"])} for o in tx["outputs"]],
    }


def undecodable():
    """Transactions that are refused, with the code."""
    change = lambda *changes: sdk_hex(changed(TX, *changes))
    borsh = (borsh_of(TX) + u(40001) + bytes.fromhex(SDK["transactionId"])).hex()
    bad, form = "invalid_kaspa_exact_transaction", "invalid_kaspa_exact_transaction_form"
    return [
        ("odd-hex", "half a byte", "000", bad),
        ("not-hex", "letters beyond f", "zz", bad),
        ("trailing-json", "text after the JSON", SDK["plainHex"] + b" {}".hex(), bad),
        ("trailing-borsh", "a byte after the transaction", borsh + "00", bad),
        ("cut-borsh", "a byte is missing", borsh[:-2], bad),
        ("length-of-4-gib", "a vector that would fill the memory", "0000" + "ff" * 4, bad),
        ("duplicate-key", "a key twice", sdk_hex(TX).replace(b'"gas":0'.hex(), b'"gas":0,"gas":0'.hex()), bad),
        ("unknown-field", "a member that transactions have not", change(("more", 1)), bad),
        ("unknown-input-field", "the same of an input", change(("inputs/0/more", 1)), bad),
        ("unknown-output-field", "the same of an output", change(("outputs/0/more", 1)), bad),
        ("negative", "a negative number", change(("lockTime", -1)), bad),
        ("float", "a fraction", change(("gas", 0.5)), bad),
        ("leading-zero", "a number as text that is not canonical", change(("outputs/0/value", "025000000")), bad),
        ("missing", "a member is missing", change(("gas", GONE)), bad),
        ("huge-number", "more than 64 bits", change(("outputs/0/value", 2**64)), bad),
        ("wrong-type", "a list for a number", change(("lockTime", [])), bad),
        ("budget-on-version-0", "a compute budget belongs to version 1", change(("inputs/0/computeBudget", 1)), bad),
        ("operations-on-version-1", "signature operations belong to version 0", change(("version", 1)), bad),
        ("borsh-operations-on-version-1", "the same in Borsh, where both can be read", "0100" + borsh[4:], form),
    ]


def decodings():
    lying = changed(TX, ("id", "ff" * 32), ("mass", 1), ("storageMass", 2), ("inputs/0/utxo", None))
    cases = []
    for name, reason, text in [
        ("plain", "the SDK's JSON", SDK["plainHex"]),
        ("safe", "64-bit numbers as text", SDK["safeHex"]),
        ("upper-case", "hex in either case", SDK["plainHex"].upper()),
        ("borsh", "the consensus encoding", (borsh_of(TX) + u(40001) + bytes.fromhex(SDK["transactionId"])).hex()),
        ("other-id", "the id inside is the sender's claim", sdk_hex(lying)),
        ("borsh-other-id", "the same in Borsh", (borsh_of(TX) + b"\xff" * 40).hex()),
    ]:
        cases.append({"name": name, "reason": reason, "input": {"transaction": text}, "expected": {"transaction": told(TX)}})
    moved = changed(TX, ("outputs/0/value", 25000001))
    cases.append({"name": "other-amount", "reason": "one sompi more is another transaction", "input": {"transaction": sdk_hex(moved)}, "expected": {"transaction": told(moved)}})
    for name, reason, text, code in undecodable():
        cases.append({"name": name, "reason": reason, "input": {"transaction": text}, "expected": {"error": code}})
    yield "transaction-decode", {"kind": "transaction-decode", "cases": cases}


def masses():
    cases = []
    for name, reason, given, pays in [
        ("one-to-one", "nothing gets smaller", [100_000_000], [99_990_000]),
        ("change", "a payment and its change", [5_000_000_000], [25_000_000, 4_974_990_000]),
        ("small-payment", "a small output is heavy", [5_000_000_000], [3_000_000, 4_996_990_000]),
        ("two-to-two", "as many outputs as inputs", [100_000_000, 200_000_000], [150_000_000, 149_990_000]),
        ("three-to-two", "the mean of the inputs counts", [10_000_000, 20_000_000, 30_000_000], [29_000_000, 30_990_000]),
        ("merging", "merging costs nothing", [10_000_000, 10_000_000, 10_000_000], [29_990_000]),
        ("sdk", "the published transaction", [5_000_000_000], [25_000_000, 4_974_776_400]),
    ]:
        cases.append({
            "name": name, "reason": reason, "input": {"network": SIMNET, "spends": [str(a) for a in given], "pays": [str(a) for a in pays]},
            "expected": {"grams": str(storage_mass(given, pays))},
        })
    for name, reason, given, pays in [
        ("dust", "no block holds it", [5_000_000_000], [1_000, 4_999_990_000]),
        ("zero-output", "an output of nothing has no mass", [5_000_000_000], [0]),
        ("zero-input", "nor has an input", [0], [1_000_000]),
    ]:
        cases.append({
            "name": name, "reason": reason, "input": {"network": SIMNET, "spends": [str(a) for a in given], "pays": [str(a) for a in pays]},
            "expected": {"error": "too_heavy"},
        })
    yield "storage-mass", {"kind": "storage-mass", "cases": cases}


def cases():
    for group in (fingerprints, finalities, on_http, receipts, positives, headers, identifiers, paths, offers, decodings, masses):
        yield from group()


def main():
    import reading
    import refusals
    import spends

    found = [*cases(), *refusals.cases(), *spends.cases(), *reading.cases()]
    wanted = {f"{name}.json": json.dumps(case, indent=1, ensure_ascii=False) + "\n" for name, case in found}
    if "--check" in sys.argv[1:]:
        different = sorted(name for name, text in wanted.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text)
        sys.exit(f"different from what is computed: {', '.join(different)}" if different else 0)
    for name, text in wanted.items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
