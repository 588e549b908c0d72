"""Spends of an escrow: claims, refunds and top-ups with their fees, what the script lets through, and what a voucher has to be.

Used by messages.py. A transaction is a dictionary in the form of the SDK's JSON; everything about it is computed here: ids and signature
hashes of version 1, masses, fees, witnesses, and by `allowed` the rules of the contract, without a script engine.
"""

import copy

import escrow_v1 as escrow
from messages import CONFIG, FUNDED, FUNDING, LOCK, SCRIPT, SIMNET, blake, blake3, changed, sdk_hex, storage_mass, u, var

FINAL = 2**64 - 1
SERVER_SECRET, CLIENT_SECRET, OWNER_SECRET, STRANGER_SECRET = escrow.SERVER_SECRET, escrow.CLIENT_SECRET, 0x5555, 0x6666
BUDGET = {"claim": 20, "refund": 10, "coin": 10}
# Of every network: grams that a block holds, and the least fee that nodes relay.
BLOCK_STORAGE, BLOCK_COMPUTE, BLOCK_TRANSIENT, SOMPI_PER_GRAM = 500_000, 500_000, 1_000_000, 100


def p2pk(secret_or_key):
    key = escrow.public_key(secret_or_key) if isinstance(secret_or_key, int) else secret_or_key
    return "20" + key + "ac"


PAYOUT_SCRIPT, REFUND_SCRIPT, ESCROW_SCRIPT = p2pk(escrow.PAYOUT), p2pk(escrow.REFUND), LOCK[2:].hex()


# ---------------------------------------------------------------- transactions of version 1


def spend(outpoint, budget, sequence=FINAL, witness=""):
    return {
        "previousOutpoint": {"transactionId": outpoint["txid"], "index": outpoint["index"]},
        "signatureScript": witness, "sequence": sequence, "sigOpCount": 0, "computeBudget": budget,
    }


def pay(value, script):
    return {"value": value, "scriptPublicKey": {"version": 0, "script": script}}


def transaction(inputs, outputs, lock_time=0):
    return {"version": 1, "inputs": inputs, "outputs": outputs, "lockTime": lock_time, "subnetworkId": "00" * 20, "gas": 0, "payload": ""}


def outpoint_bytes(tx_input):
    previous = tx_input["previousOutpoint"]
    return bytes.fromhex(previous["transactionId"]) + u(previous["index"], 4)


def output_bytes(output):
    script, covenant = output["scriptPublicKey"], output.get("covenant")
    out = u(output["value"]) + u(script["version"], 2) + var(bytes.fromhex(script["script"])) + bytes([covenant is not None])
    if covenant:
        out += u(covenant["authorizingInput"], 2) + bytes.fromhex(covenant["covenantId"])
    return out


def id_of(tx):
    """Without payload; witnesses, budgets and masses are no part of an id."""
    out = u(1, 2) + u(len(tx["inputs"]))
    out += b"".join(outpoint_bytes(each) + var(b"") + u(each["sequence"]) for each in tx["inputs"])
    out += u(len(tx["outputs"])) + b"".join(output_bytes(each) for each in tx["outputs"])
    out += u(tx["lockTime"]) + bytes.fromhex(tx["subnetworkId"]) + u(tx["gas"]) + var(b"")
    return blake3(b"TransactionV1Id", blake3(b"PayloadDigest", b"") + blake3(b"TransactionRest", out)).hex()


def signing_hash(tx, index, script, amount):
    """What the owner of one input signs with SIGHASH_ALL."""
    hashed = lambda parts: blake(b"TransactionSigningHash", b"".join(parts))
    own = tx["inputs"][index]
    out = u(1, 2) + hashed(map(outpoint_bytes, tx["inputs"])) + hashed(u(each["sequence"]) for each in tx["inputs"])
    out += outpoint_bytes(own) + u(0, 2) + var(bytes.fromhex(script)) + u(amount) + u(own["sequence"])
    out += hashed(map(output_bytes, tx["outputs"])) + u(tx["lockTime"]) + bytes.fromhex(tx["subnetworkId"]) + u(tx["gas"]) + bytes(32) + b"\x01"
    return blake(b"TransactionSigningHash", out)


def fee(tx):
    """Of a transaction whose witnesses have their length: grams of compute, or of transience if they weigh more."""
    sizes = [52 + 2 + len(each["signatureScript"]) // 2 for each in tx["inputs"]]
    scripts = [len(each["scriptPublicKey"]["script"]) // 2 for each in tx["outputs"]]
    size = 2 + 8 + sum(sizes) + 8 + sum(18 + length for length in scripts) + 8 + 20 + 8 + 32 + 8
    compute = size + 10 * sum(2 + length for length in scripts) + 100 * sum(each["computeBudget"] for each in tx["inputs"])
    transient = -(-size * 4 * BLOCK_COMPUTE // BLOCK_TRANSIENT)
    return SOMPI_PER_GRAM * max(compute, transient)


def signed(signature):
    """A push of 65 bytes: the signature and its type, ALL."""
    return "41" + signature + "01"


PUSH_REDEEM = "4d" + u(len(SCRIPT), 2).hex() + SCRIPT.hex()


def claim_witness(server, voucher):
    return signed(server) + "40" + voucher["signature"] + "08" + u(voucher["amount"]).hex() + "00" + PUSH_REDEEM


def refund_witness(client):
    return signed(client) + "51" + PUSH_REDEEM


def voucher(amount, outpoint=FUNDING, secret=CLIENT_SECRET):
    given = {"network": SIMNET, "activeScriptPublicKey": LOCK.hex(), "outpoint": outpoint, "amount": str(amount)}
    return {"amount": str(amount), "signature": escrow.schnorr_sign(secret, escrow.voucher_digest(given)[1])}


BLANK = {"amount": "0", "signature": "00" * 64}
CLAIM_FEE = fee(transaction([spend(FUNDING, 20, FINAL, claim_witness("00" * 64, BLANK))], [pay(1, PAYOUT_SCRIPT), pay(1, ESCROW_SCRIPT)]))
REFUND_FEE = fee(transaction([spend(FUNDING, 10, 0, refund_witness("00" * 64))], [pay(1, REFUND_SCRIPT)], 500_000))


def fits(funding, takes):
    """Whether the network takes a claim of so much: neither output is too small for its storage."""
    paid, rest = takes - CLAIM_FEE, funding - takes
    return paid > 0 and rest > 0 and storage_mass([funding], [paid, rest]) <= BLOCK_STORAGE


def reserve(funding):
    """The smallest rest that a claim can leave."""
    too_small, enough = 0, funding // 2
    assert fits(funding, funding - enough)
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if fits(funding, funding - middle):
            enough = middle
        else:
            too_small = middle
    return enough


# ---------------------------------------------------------------- what the contract lets the script do


def pushes(script):
    """The items a witness pushes; numbers of one byte stand for themselves."""
    data, at, items = bytes.fromhex(script), 0, []
    while at < len(data):
        code, at = data[at], at + 1
        if 1 <= code <= 75:
            items.append(data[at : at + code])
            at += code
        elif code == 0x4D:
            length = int.from_bytes(data[at : at + 2], "little")
            items.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        elif code == 0 or 0x51 <= code <= 0x60:
            items.append(code - 0x50 if code else 0)
        else:
            return None
    return items


def allowed(tx, funding=FUNDED, outpoint=FUNDING):
    """Whether the escrow lets this transaction spend it."""
    index = next(at for at, each in enumerate(tx["inputs"]) if outpoint_bytes(each) == bytes.fromhex(outpoint["txid"]) + u(outpoint["index"], 4))
    own, outputs = tx["inputs"][index], tx["outputs"]
    items = pushes(own["signatureScript"])
    locks = [each["scriptPublicKey"] for each in outputs]
    pays = [(each["value"], lock["script"] if lock["version"] == 0 else None) for each, lock in zip(outputs, locks)]
    if not items or items[-1] != SCRIPT:
        return False
    by = lambda key, signature: len(signature) == 65 and signature[64] == 1 and escrow.schnorr_verify(
        key, signing_hash(tx, index, ESCROW_SCRIPT, funding), signature[:64].hex())
    match items[:-1]:
        case [bytes(server), bytes(client), bytes(amount), 0]:
            most = int.from_bytes(amount, "little")
            given = {"network": SIMNET, "activeScriptPublicKey": LOCK.hex(), "outpoint": outpoint, "amount": str(most)}
            return (
                own["computeBudget"] >= BUDGET["claim"] and len(amount) == 8 and most < 2**63
                and by(escrow.SERVER, server) and escrow.schnorr_verify(escrow.CLIENT, escrow.voucher_digest(given)[1], client.hex())
                and len(pays) == 2
                and pays[0][1] == PAYOUT_SCRIPT and pays[0][0] <= most
                and pays[1][1] == ESCROW_SCRIPT and pays[1][0] >= funding - most
            )
        case [bytes(client), 1]:
            return (
                own["computeBudget"] >= BUDGET["refund"] and by(escrow.CLIENT, client) and own["sequence"] == 0
                and 500_000 <= tx["lockTime"] < 500_000_000_000
                and len(pays) == 1 and pays[0][1] == REFUND_SCRIPT
            )
    return False


# ---------------------------------------------------------------- the cases

ESCROW = {"channelConfig": CONFIG, "fundingOutpoint": FUNDING, "fundingAmount": str(FUNDED)}


def claims():
    cases = []
    for name, reason, takes in [("base", "part of the escrow", 100_000_000), ("most", "nearly all of it", 480_000_000), ("least", "a small claim", 30_000_000)]:
        vouched = voucher(takes)
        paid, rest = takes - CLAIM_FEE, FUNDED - takes
        tx = transaction([spend(FUNDING, 20)], [pay(paid, PAYOUT_SCRIPT), pay(rest, ESCROW_SCRIPT)])
        digest = signing_hash(tx, 0, ESCROW_SCRIPT, FUNDED)
        server = escrow.schnorr_sign(SERVER_SECRET, digest)
        cases.append({
            "name": name, "reason": reason,
            "input": ESCROW | {"claimAmount": str(takes), "voucher": vouched, "serverSignature": server},
            "expected": {
                "fee": str(CLAIM_FEE), "payout": str(paid), "continuation": str(rest), "storageMass": str(storage_mass([FUNDED], [paid, rest])),
                "sighash": digest.hex(), "signatureScript": claim_witness(server, vouched), "transactionId": id_of(tx),
            },
        })
    kept = reserve(FUNDED)
    for name, reason, takes, vouched, word in [
        ("nothing-stays", "there is always a continuation", FUNDED, FUNDED, "exceeds_funding"),
        ("more-than-there-is", "an escrow pays out no more than it holds", FUNDED + 1, FUNDED + 1, "exceeds_funding"),
        ("nothing-claimed", "a claim of nothing", 0, 0, "uneconomic"),
        ("less-than-the-fee", "the fee comes out of the claim", CLAIM_FEE, CLAIM_FEE, "uneconomic"),
        ("payout-too-small", "an output so small weighs more than a block holds", CLAIM_FEE + 1_000_000, CLAIM_FEE + 1_000_000, "uneconomic"),
        ("continuation-too-small", "one sompi below the reserve", FUNDED - kept + 1, FUNDED - kept + 1, "uneconomic"),
        ("above-the-voucher", "one sompi more than the client signed", 100_000_000, 99_999_999, "voucher_too_low"),
    ]:
        assert word == ("voucher_too_low" if takes > vouched else "exceeds_funding" if takes >= FUNDED else "uneconomic")
        assert word != "uneconomic" or not fits(FUNDED, takes)
        cases.append({
            "name": name, "reason": reason, "input": ESCROW | {"claimAmount": str(takes), "voucher": voucher(vouched)}, "expected": {"error": word},
        })
    yield "claim-tx", {"kind": "claim-tx", "cases": cases}


def refunds():
    cases = []
    for name, reason, funding in [("base", "all that is left, after the timeout", FUNDED), ("least", "a small rest", 3_000_000)]:
        left = funding - REFUND_FEE
        tx = transaction([spend(FUNDING, 10, 0)], [pay(left, REFUND_SCRIPT)], 500_000)
        digest = signing_hash(tx, 0, ESCROW_SCRIPT, funding)
        client = escrow.schnorr_sign(CLIENT_SECRET, digest)
        cases.append({
            "name": name, "reason": reason, "input": ESCROW | {"fundingAmount": str(funding), "clientSignature": client},
            "expected": {
                "fee": str(REFUND_FEE), "amount": str(left), "lockTime": "500000", "storageMass": str(storage_mass([funding], [left])),
                "sighash": digest.hex(), "signatureScript": refund_witness(client), "transactionId": id_of(tx),
            },
        })
    for name, reason, funding in [("less-than-the-fee", "the fee is all there is", REFUND_FEE), ("too-small", "what is left weighs more than a block holds", 300_000)]:
        left = funding - REFUND_FEE
        assert left <= 0 or storage_mass([funding], [left]) > BLOCK_STORAGE
        cases.append({"name": name, "reason": reason, "input": ESCROW | {"fundingAmount": str(funding)}, "expected": {"error": "uneconomic"}})
    yield "refund-tx", {"kind": "refund-tx", "cases": cases}


VOUCHED = 100_000_000
STRANGER_SCRIPT = p2pk(STRANGER_SECRET)


def claiming(*changes, vouched=None, secret=SERVER_SECRET, after=(), witness=None):
    """A claim with these changes, signed after them; `after` are changes that nobody signed."""
    outputs = [pay(VOUCHED - CLAIM_FEE, PAYOUT_SCRIPT), pay(FUNDED - VOUCHED, ESCROW_SCRIPT)]
    tx = changed(transaction([spend(FUNDING, 20)], outputs), *changes)
    at = next(at for at, each in enumerate(tx["inputs"]) if each["previousOutpoint"]["transactionId"] == FUNDING["txid"])
    server = escrow.schnorr_sign(secret, signing_hash(tx, at, ESCROW_SCRIPT, FUNDED))
    script = claim_witness(server, vouched or voucher(VOUCHED))
    tx["inputs"][at]["signatureScript"] = witness(script) if witness else script
    return changed(tx, *after)


def refunding(*changes, secret=CLIENT_SECRET, after=(), witness=None):
    tx = changed(transaction([spend(FUNDING, 10, 0)], [pay(FUNDED - REFUND_FEE, REFUND_SCRIPT)], 500_000), *changes)
    script = refund_witness(escrow.schnorr_sign(secret, signing_hash(tx, 0, ESCROW_SCRIPT, FUNDED)))
    tx["inputs"][0]["signatureScript"] = witness(script) if witness else script
    return changed(tx, *after)


def escrow_spends():
    put = lambda script, at, new: script[: 2 * at] + new + script[2 * at + len(new) :]
    beside = {"txid": "02" * 32, "index": 3}
    third = ("outputs/2", pay(VOUCHED // 2, PAYOUT_SCRIPT))
    swapped = [("outputs/0", pay(FUNDED - VOUCHED, ESCROW_SCRIPT)), ("outputs/1", pay(VOUCHED - CLAIM_FEE, PAYOUT_SCRIPT))]
    cases = []
    for name, reason, valid, tx in [
        ("claim", "what the client signed, less the fee", True, claiming()),
        ("claim-less", "less than the client signed", True, claiming(("outputs/0/value", VOUCHED // 2), ("outputs/1/value", FUNDED - VOUCHED // 2))),
        ("claim-fee-from-elsewhere", "all that the client signed", True, claiming(("outputs/0/value", VOUCHED))),
        ("claim-second-input", "the escrow is spent beside other outputs, wherever it stands", True,
         claiming(("inputs", [spend(beside, 10, FINAL, "41" + "ab" * 64 + "01"), spend(FUNDING, 20)]))),
        ("claim-more-stays", "another input added to the escrow", True, claiming(("outputs/1/value", FUNDED))),
        ("claim-payout-above", "one sompi above the voucher", False, claiming(("outputs/0/value", VOUCHED + 1))),
        ("claim-too-little-stays", "one sompi too little stays", False, claiming(("outputs/1/value", FUNDED - VOUCHED - 1))),
        ("claim-to-a-stranger", "to another recipient", False, claiming(("outputs/0/scriptPublicKey/script", STRANGER_SCRIPT))),
        ("claim-to-another-version", "to the recipient's script under another version", False, claiming(("outputs/0/scriptPublicKey/version", 1))),
        ("claim-not-continued", "the rest is not locked as before", False, claiming(("outputs/1/scriptPublicKey/script", PAYOUT_SCRIPT))),
        ("claim-swapped", "the outputs in the other order", False, claiming(*swapped)),
        ("claim-one-output", "the rest goes to nobody", False, claiming(("outputs", [pay(VOUCHED - CLAIM_FEE, PAYOUT_SCRIPT)]))),
        ("claim-three-outputs", "a third output", False, claiming(third)),
        ("claim-by-client", "signed by the client", False, claiming(secret=CLIENT_SECRET)),
        ("claim-by-stranger", "signed by anybody", False, claiming(secret=STRANGER_SECRET)),
        ("claim-changed", "changed after it was signed", False, claiming(after=[("outputs/0/value", VOUCHED - CLAIM_FEE - 1)])),
        ("claim-voucher-by-server", "the server signs a voucher itself", False, claiming(vouched=voucher(VOUCHED, secret=SERVER_SECRET))),
        ("claim-voucher-raised", "a voucher of more than was signed", False,
         claiming(vouched=voucher(VOUCHED) | {"amount": str(VOUCHED + 1)})),
        ("claim-voucher-negative", "an amount that the script would read as negative", False,
         claiming(vouched=voucher(2**63 + VOUCHED))),
        ("claim-voucher-other-output", "a voucher for another output of the same transaction", False,
         claiming(vouched=voucher(VOUCHED, FUNDING | {"index": 1}))),
        ("claim-voucher-other-transaction", "a voucher for the outpoint before", False, claiming(vouched=voucher(VOUCHED, beside))),
        ("claim-as-refund", "a claim's witness in the refund's branch", False, claiming(witness=lambda script: put(script, 140, "51"))),
        ("claim-no-branch", "a branch that is not there", False, claiming(witness=lambda script: put(script, 140, "52"))),
        ("claim-small-budget", "the budget of a refund", False, claiming(("inputs/0/computeBudget", 10))),
        ("refund", "all that is left, at the timeout", True, refunding()),
        ("refund-later", "with a later lock time", True, refunding(("lockTime", 500_001))),
        ("refund-early", "before the timeout", False, refunding(("lockTime", 499_999))),
        ("refund-unlocked", "without a lock time", False, refunding(("lockTime", 0))),
        ("refund-by-time", "a lock time that is a time", False, refunding(("lockTime", 500_000_000_000))),
        ("refund-final", "a sequence that puts the lock time out of force", False, refunding(("inputs/0/sequence", FINAL))),
        ("refund-sequence", "any other sequence", False, refunding(("inputs/0/sequence", 1))),
        ("refund-by-server", "signed by the server", False, refunding(secret=SERVER_SECRET)),
        ("refund-by-stranger", "signed by anybody", False, refunding(secret=STRANGER_SECRET)),
        ("refund-changed", "changed after it was signed", False, refunding(after=[("outputs/0/value", 1)])),
        ("refund-to-a-stranger", "to another address", False, refunding(("outputs/0/scriptPublicKey/script", STRANGER_SCRIPT))),
        ("refund-to-the-recipient", "to the recipient", False, refunding(("outputs/0/scriptPublicKey/script", PAYOUT_SCRIPT))),
        ("refund-two-outputs", "a second output", False, refunding(("outputs/1", pay(1_000_000, REFUND_SCRIPT)))),
        ("refund-no-output", "no output", False, refunding(("outputs", []))),
        ("refund-as-claim", "a refund's witness in the claim's branch", False, refunding(witness=lambda script: put(script, 66, "00"))),
        ("refund-no-budget", "without a budget", False, refunding(("inputs/0/computeBudget", 0))),
    ]:
        assert allowed(tx) == valid, name
        cases.append({"name": name, "reason": reason, "input": ESCROW | {"transaction": sdk_hex(tx)}, "expected": {"valid": valid}})
    yield "escrow-spend", {"kind": "escrow-spend", "cases": cases}


def continued(given, tx):
    """The buyer's check: its escrow goes on in output 1, and lost no more than the buyer owes."""
    outpoint = given["fundingOutpoint"]
    if bytes.fromhex(outpoint["txid"]) + u(outpoint["index"], 4) not in map(outpoint_bytes, tx["inputs"]):
        return {"error": "not_a_spend"}
    outputs = tx["outputs"]
    if len(outputs) != 2 or outputs[1]["scriptPublicKey"] != {"version": 0, "script": ESCROW_SCRIPT} or "covenant" in outputs[1]:
        return {"error": "not_continued"}
    taken = max(0, int(given["fundingAmount"]) - outputs[1]["value"])
    if taken > int(given["owed"]):
        return {"error": "took_too_much"}
    return {"continuation": {"outpoint": {"txid": id_of(tx), "index": 1}, "fundingAmount": str(outputs[1]["value"]), "taken": str(taken)}}


def continuations():
    covenant = {"authorizingInput": 0, "covenantId": "01" * 32}
    rest = lambda value: ("outputs/1/value", value)
    cases = []
    for name, reason, owed, tx, word in [
        ("owed", "exactly what was charged", VOUCHED, claiming(), "continuation"),
        ("less-than-owed", "less than was charged", VOUCHED, claiming(rest(FUNDED - VOUCHED + 1)), "continuation"),
        ("topped-up", "more than before: nothing was taken", 0, claiming(rest(FUNDED + 1)), "continuation"),
        ("nothing-taken", "as much as before", 0, claiming(rest(FUNDED)), "continuation"),
        ("above-what-is-owed", "within the voucher, and yet more than was charged", VOUCHED - 1, claiming(), "took_too_much"),
        ("nothing-owed", "nothing was charged", 0, claiming(rest(FUNDED - 1)), "took_too_much"),
        ("other-outpoint", "another output is spent", VOUCHED, claiming(after=[("inputs/0/previousOutpoint/index", 1)]), "not_a_spend"),
        ("refund", "the escrow ends", FUNDED, refunding(), "not_continued"),
        ("three-outputs", "no claim has three", FUNDED, claiming(("outputs/2", pay(1_000_000, ESCROW_SCRIPT))), "not_continued"),
        ("other-script", "the rest is locked in another way", FUNDED, claiming(("outputs/1/scriptPublicKey/script", PAYOUT_SCRIPT)), "not_continued"),
        ("other-version", "the same script of another version", FUNDED, claiming(("outputs/1/scriptPublicKey/version", 1)), "not_continued"),
        ("covenant", "the rest is bound to a covenant", FUNDED, claiming(("outputs/1/covenant", covenant)), "not_continued"),
        ("beyond-supply", "more than there is", FUNDED, claiming(rest(2**64 - 1)), "not_continued"),
    ]:
        given = ESCROW | {"owed": str(owed), "transaction": sdk_hex(tx)}
        expected = continued(given, tx) if tx["outputs"][-1]["value"] <= 29 * 10**17 else {"error": "not_continued"}
        assert word in (expected.get("error"), next(iter(expected))), name
        cases.append({"name": name, "reason": reason, "input": given, "expected": expected})
    yield "continuation", {"kind": "continuation", "cases": cases}


ACTIVE = 100_000_000
COINS = [200_000_000, 50_000_000]
COIN = [{"txid": "02" * 32, "index": index} for index in range(3)]
OWNER_SCRIPT = p2pk(OWNER_SECRET)


def topping(*changes, after=(), coins=COINS, secret=OWNER_SECRET):
    """A top-up with these changes, its coins signed after them."""
    inputs = [spend(FUNDING, 20), *[spend(outpoint, 10) for outpoint, _ in zip(COIN, coins)]]
    tx = transaction(inputs, [pay(ACTIVE - CLAIM_FEE, PAYOUT_SCRIPT), pay(FUNDED, ESCROW_SCRIPT)])
    weighed = changed(tx, ("inputs/0/signatureScript", claim_witness("00" * 64, BLANK)))
    for at in range(len(coins)):
        weighed["inputs"][at + 1]["signatureScript"] = signed("00" * 64)
    added = sum(coins) - (fee(weighed) - CLAIM_FEE)
    tx = copy.deepcopy(changed(tx, ("outputs/1/value", FUNDED - ACTIVE + added), *changes))
    for at, each in enumerate(tx["inputs"]):
        mine = next((n for n, outpoint in enumerate(COIN) if each["previousOutpoint"] == {"transactionId": outpoint["txid"], "index": outpoint["index"]}), None)
        if mine is not None:
            each["signatureScript"] = signed(escrow.schnorr_sign(secret, signing_hash(tx, at, OWNER_SCRIPT, coins[min(mine, len(coins) - 1)])))
    return changed(tx, *after)


def topped(tx, spent, vouched, **server):
    found = None if spent is None else [{"amount": str(amount), "scriptPublicKey": "0000" + script} for amount, script in spent]
    return ESCROW | {"claimAmount": str(ACTIVE), "transaction": sdk_hex(tx), "spent": found, "voucher": vouched} | server


def top_ups():
    known = [(amount, OWNER_SCRIPT) for amount in COINS]
    cases = []
    shifted = topping()["outputs"][1]["value"] - CLAIM_FEE
    most = VOUCHED * 2
    for name, reason, tx, spent in [
        ("base", "the active amount is paid out, and two coins join the rest", topping(), known),
        ("unseen", "what the coins are is the node's to say", topping(), None),
        ("one-coin", "a single coin", topping(coins=COINS[:1]), known[:1]),
        ("whole-payout", "the client pays the fee of the claim too", topping(("outputs/0/value", ACTIVE), ("outputs/1/value", shifted)), known),
    ]:
        vouched = voucher(most)
        digest = signing_hash(tx, 0, ESCROW_SCRIPT, FUNDED)
        server = escrow.schnorr_sign(SERVER_SECRET, digest)
        witness = claim_witness(server, vouched)
        paid, rest = (each["value"] for each in tx["outputs"])
        assert allowed(changed(tx, ("inputs/0/signatureScript", witness)))
        cases.append({
            "name": name, "reason": reason, "input": topped(tx, spent, vouched, serverSignature=server),
            "expected": {
                "payout": str(paid), "continuation": str(rest), "added": str(rest - (FUNDED - ACTIVE)),
                "sighash": digest.hex(), "signatureScript": witness, "transactionId": id_of(tx),
            },
        })
    form, amount, signature = (f"invalid_kaspa_escrow_top_up{part}" for part in ("", "_amount", "_signature"))
    base = topping()
    rest = base["outputs"][1]["value"]
    covenant = {"authorizingInput": 0, "covenantId": "01" * 32}
    refused = [
        ("other-outpoint", "input 0 spends another output", topping(("inputs/0/previousOutpoint/index", 1)), form),
        ("other-order", "the escrow is not spent first", topping(("inputs", [base["inputs"][1], base["inputs"][0]])), form),
        ("escrow-alone", "the client brings nothing", topping(coins=[]), form),
        ("own-witness", "the witness of the escrow is the server's to write", topping(("inputs/0/signatureScript", "51")), form),
        ("other-budget", "the escrow's budget is that of a claim", topping(("inputs/0/computeBudget", 19)), form),
        ("sequence", "no sequence locks", topping(("inputs/0/sequence", 0)), form),
        ("coin-sequence", "no sequence locks", topping(("inputs/1/sequence", 5)), form),
        ("coin-twice", "one output is spent twice", topping(("inputs/2/previousOutpoint/index", 0)), form),
        ("gas", "gas is for subnetworks", topping(("gas", 1)), form),
        ("lock-time", "no lock time", topping(("lockTime", 1)), form),
        ("payload", "no payload", topping(("payload", "00")), form),
        ("subnetwork", "only the native subnetwork", topping(("subnetworkId", "01" + "00" * 19)), form),
        ("one-output", "the escrow ends", topping(("outputs", base["outputs"][:1])), form),
        ("change", "there is no change", topping(("outputs/2", pay(1_000_000, OWNER_SCRIPT))), form),
        ("other-recipient", "the payout goes to somebody else", topping(("outputs/0/scriptPublicKey/script", STRANGER_SCRIPT)), form),
        ("other-continuation", "the rest is locked in another way", topping(("outputs/1/scriptPublicKey/script", OWNER_SCRIPT)), form),
        ("covenant-payout", "the payout is bound to a covenant", topping(("outputs/0/covenant", covenant)), form),
        ("covenant-continuation", "the rest is bound to a covenant", topping(("outputs/1/covenant", covenant)), form),
        ("payout-less", "one sompi less than a claim would pay out", topping(("outputs/0/value", ACTIVE - CLAIM_FEE - 1)), amount),
        ("payout-more", "one sompi more than is active", topping(("outputs/0/value", ACTIVE + 1)), amount),
        ("nothing-added", "no more stays than after a claim", topping(("outputs/1/value", FUNDED - ACTIVE)), amount),
        ("something-taken", "less stays than after a claim", topping(("outputs/1/value", FUNDED - ACTIVE - 1)), amount),
        ("beyond-supply", "more than there is", topping(("outputs/1/value", 2**64 - 1)), amount),
        ("not-signed", "a coin is not signed", topping(after=[("inputs/1/signatureScript", "")]), signature),
        ("other-type", "signed over less than the whole", topping(after=[("inputs/1/signatureScript", base["inputs"][1]["signatureScript"][:-2] + "81")]), signature),
    ]
    judged_with_coins = [
        ("fee-short", "one sompi less than the fee", topping(("outputs/1/value", rest + 1)), known, amount),
        ("coin-worthless", "a coin that holds nothing", base, [(0, OWNER_SCRIPT), known[1]], amount),
        ("coin-unknown", "an output that nobody knows", base, known[:1], form),
        ("by-stranger", "signed by somebody else", topping(secret=STRANGER_SECRET), known, signature),
        ("changed", "changed after the client signed", topping(after=[("outputs/1/value", rest - 1)]), known, signature),
        ("other-coin", "a coin of somebody else", base, [(COINS[0], STRANGER_SCRIPT), known[1]], signature),
    ]
    for name, reason, tx, code in refused:
        cases.append({"name": name, "reason": reason, "input": topped(tx, None, voucher(most)), "expected": {"error": code}})
    for name, reason, tx, spent, code in judged_with_coins:
        cases.append({"name": name, "reason": reason, "input": topped(tx, spent, voucher(most)), "expected": {"error": code}})
    cases.append({
        "name": "nothing-to-claim", "reason": "a top-up is a claim, and nothing is active",
        "input": topped(base, None, voucher(most)) | {"claimAmount": "0"}, "expected": {"error": "top_up_nothing_to_claim"},
    })
    cases.append({
        "name": "too-little-to-claim", "reason": "what is active is not worth a claim",
        "input": topped(base, None, voucher(most)) | {"claimAmount": str(CLAIM_FEE)}, "expected": {"error": "top_up_nothing_to_claim"},
    })
    cases.append({
        "name": "above-the-voucher", "reason": "the voucher does not cover what is active",
        "input": topped(base, known, voucher(ACTIVE - 1)), "expected": {"error": "voucher_too_low"},
    })
    yield "top-up-tx", {"kind": "top-up-tx", "cases": cases}


# ---------------------------------------------------------------- a voucher against its channel

BEFORE = {"txid": "03" * 32, "index": 1}
CHANNEL = escrow.channel_id(CONFIG)[1].hex()


def paying(amount, outpoint=FUNDING, secret=CLIENT_SECRET, **changes):
    return {
        "type": "voucher", "channelId": CHANNEL, "clientPublicKey": escrow.CLIENT, "fundingOutpoint": outpoint,
        "activeScriptPublicKey": LOCK.hex(), "voucher": voucher(amount, outpoint, secret),
    } | changes


def verdict(given):
    """The rules in their order: whose voucher it is, for which output, and of which amount."""
    payload, amount = given["payload"], int(given["payload"]["voucher"]["amount"])
    if payload["type"] != "voucher":
        return {"error": "invalid_kaspa_x402_payload_type"}
    digest = escrow.voucher_digest({
        "network": SIMNET, "activeScriptPublicKey": LOCK.hex(), "outpoint": payload["fundingOutpoint"], "amount": str(amount)})[1]
    outpoints = [given["activeOutpoint"], given["previousOutpoint"]]
    known = payload["channelId"] == CHANNEL and payload["fundingOutpoint"] in outpoints
    if not known or not escrow.schnorr_verify(escrow.CLIENT, digest, payload["voucher"]["signature"]):
        return {"error": "channel_unknown"}
    if payload["clientPublicKey"] != escrow.CLIENT:
        return {"error": "invalid_kaspa_escrow_client_key"}
    if payload["activeScriptPublicKey"] != LOCK.hex():
        return {"error": "invalid_kaspa_escrow_script"}
    if payload["fundingOutpoint"] != given["activeOutpoint"]:
        return {"error": "voucher_stale_outpoint"}
    funding, charged, claimed, signed_max, ceiling = (
        int(given[name]) for name in ("fundingAmount", "chargedCumulativeAmount", "claimedCumulativeAmount", "signedMaxClaimable", "amount"))
    if amount != max(signed_max, charged - claimed + ceiling):
        return {"error": "voucher_amount"}
    if amount + reserve(funding) > funding:
        return {"error": "channel_balance"}
    return {"pays": str(amount)}


def channel_vouchers():
    base = {
        "channelConfig": CONFIG, "activeOutpoint": FUNDING, "previousOutpoint": BEFORE, "fundingAmount": str(FUNDED),
        "chargedCumulativeAmount": "900000", "claimedCumulativeAmount": "0", "signedMaxClaimable": "1000000", "amount": "1000000",
    }
    accounts = lambda charged, claimed, signed_max: {
        "chargedCumulativeAmount": str(charged), "claimedCumulativeAmount": str(claimed), "signedMaxClaimable": str(signed_max)}
    covered = FUNDED - reserve(FUNDED)
    spending = paying(1_900_000, type="claim", claimAmount="900000")
    del spending["clientPublicKey"]
    cases = []
    for name, reason, change, payload, word in [
        ("first", "nothing is charged yet: the ceiling of this request", accounts(0, 0, 0) | {"previousOutpoint": None}, paying(1_000_000), "pays"),
        ("active-and-amount", "what is charged and not claimed, and the ceiling of this request", {}, paying(1_900_000), "pays"),
        ("signed-before", "as much was signed before: that voucher again", accounts(100_000, 0, 2_000_000), paying(2_000_000), "pays"),
        ("as-much-as-before", "both are the same", accounts(900_000, 0, 1_900_000), paying(1_900_000), "pays"),
        ("after-a-claim", "what was claimed is over, and nothing is signed for the new outpoint", accounts(5_900_000, 5_000_000, 900_000), paying(1_900_000), "pays"),
        ("free", "a request that may cost nothing", {"amount": "0"}, paying(1_000_000), "pays"),
        ("all-that-is-covered", "all but what a claim has to leave", {"amount": str(covered - 900_000)}, paying(covered), "pays"),
        ("one-more", "one sompi too much", {}, paying(1_900_001), "voucher_amount"),
        ("one-less", "one sompi too little", {}, paying(1_899_999), "voucher_amount"),
        ("amount-alone", "what is charged already is left out", {}, paying(1_000_000), "voucher_amount"),
        ("less-than-signed", "less than was signed before", accounts(100_000, 0, 2_000_000), paying(1_100_000), "voucher_amount"),
        ("claimed-counted-again", "what was claimed is counted again", accounts(5_900_000, 5_000_000, 900_000), paying(6_900_000), "voucher_amount"),
        ("not-covered", "one sompi more than the escrow covers", {"amount": str(covered - 900_000 + 1)}, paying(covered + 1), "channel_balance"),
        ("whole-escrow", "nothing is left for the continuation", {"amount": str(FUNDED - 900_000)}, paying(FUNDED), "channel_balance"),
        ("beyond-the-escrow", "more than the escrow holds", {"amount": str(FUNDED)}, paying(FUNDED + 900_000), "channel_balance"),
        ("stale", "for the outpoint before the last claim", {}, paying(1_900_000, BEFORE), "voucher_stale_outpoint"),
        ("outpoint-unknown", "for an outpoint that the channel never had", {}, paying(1_900_000, BEFORE | {"index": 2}), "channel_unknown"),
        ("channel-other", "another channel", {}, paying(1_900_000, channelId="01" * 32), "channel_unknown"),
        ("by-server", "signed by the server", {}, paying(1_900_000, secret=SERVER_SECRET), "channel_unknown"),
        ("by-stranger", "signed by somebody else under the client's key", {}, paying(1_900_000, secret=STRANGER_SECRET), "channel_unknown"),
        ("raised", "another amount than was signed", {}, paying(1_900_000, voucher=voucher(1_800_000) | {"amount": "1900000"}), "channel_unknown"),
        ("moved", "signed for the outpoint before, sent for this one", {}, paying(1_900_000, voucher=voucher(1_900_000, BEFORE)), "channel_unknown"),
        ("key-other", "the holder of the key names another", {}, paying(1_900_000, clientPublicKey=escrow.SERVER), "invalid_kaspa_escrow_client_key"),
        ("script-other", "the holder of the key names another script", {},
         paying(1_900_000, activeScriptPublicKey="0000aa20" + "ab" * 32 + "87"), "invalid_kaspa_escrow_script"),
        ("claim", "a claim pays for no request", {}, spending, "invalid_kaspa_x402_payload_type"),
    ]:
        given = base | change | {"payload": payload}
        found = verdict(given)
        assert word in (found.get("error"), next(iter(found))), (name, found)
        cases.append({
            "name": name, "reason": reason, "input": given, "expected": {"reserve": str(reserve(int(given["fundingAmount"])))} | found,
        })
    yield "channel-voucher", {"kind": "channel-voucher", "cases": cases}


def cases():
    for group in (claims, refunds, escrow_spends, continuations, top_ups, channel_vouchers):
        yield from group()
