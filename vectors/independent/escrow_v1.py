#!/usr/bin/env python3
"""Computes the expected values of vectors/escrow-v1 without any code of the gateway.

Only hashlib and whole numbers: channel ids, voucher digests, BIP340 signatures, escrow scripts,
requirements hashes and commitment ids from their inputs alone. Run it without arguments to write the files
again; `--check` compares instead and fails on any difference.
"""

import hashlib
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "escrow-v1"


def h(data):
    if isinstance(data, str):
        data = data.encode()
    return hashlib.sha256(data).digest()


def le(number, width=8):
    return int(number).to_bytes(width, "little")


# ---------------------------------------------------------------- addresses (cashaddr alphabet, 8-bit version)

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def polymod(values):
    c = 1
    for value in values:
        top = c >> 35
        c = ((c & 0x07FFFFFFFF) << 5) ^ value
        for bit, generator in enumerate((0x98F2BC8E61, 0x79B76D99E2, 0xF33E5FB3C4, 0xAE2EABE2A8, 0x1E4F43E470)):
            if top >> bit & 1:
                c ^= generator
    return c ^ 1


def regroup(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]


def address(prefix, version, payload):
    data = regroup(bytes([version]) + payload)
    check = polymod([ord(letter) & 31 for letter in prefix] + [0] + data + [0] * 8)
    return prefix + ":" + "".join(ALPHABET[five] for five in data + regroup(check.to_bytes(5, "big")))


PREFIX = {"kaspa:mainnet": "kaspa", "kaspa:testnet-10": "kaspatest", "kaspa:simnet": "kaspasim"}


def p2pk(network, key):
    return address(PREFIX[network], 0, bytes.fromhex(key))


# ---------------------------------------------------------------- BIP340

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(point, factor):
    total = None
    while factor:
        if factor & 1:
            total = add(total, point)
        point, factor = add(point, point), factor >> 1
    return total


def tagged(tag, data):
    return h(h(tag) * 2 + data)


def public_key(secret):
    return times(G, secret)[0].to_bytes(32, "big").hex()


def schnorr_sign(secret, message, aux=bytes(32)):
    point = times(G, secret)
    key = point[0].to_bytes(32, "big")
    d = secret if point[1] % 2 == 0 else N - secret
    masked = (d ^ int.from_bytes(tagged("BIP0340/aux", aux), "big")).to_bytes(32, "big")
    k = int.from_bytes(tagged("BIP0340/nonce", masked + key + message), "big") % N
    r = times(G, k)
    if r[1] % 2:
        k = N - k
    rx = r[0].to_bytes(32, "big")
    e = int.from_bytes(tagged("BIP0340/challenge", rx + key + message), "big") % N
    return (rx + ((k + e * d) % N).to_bytes(32, "big")).hex()


def schnorr_verify(key, message, signature):
    x, r, s = int(key, 16), int(signature[:64], 16), int(signature[64:], 16)
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if x >= P or r >= P or s >= N or y * y % P != square:
        return False
    point = (x, y if y % 2 == 0 else P - y)
    e = int.from_bytes(tagged("BIP0340/challenge", bytes.fromhex(signature[:64] + key) + message), "big") % N
    found = add(times(G, s), times(point, N - e))
    return found is not None and found[1] % 2 == 0 and found[0] == r


# ---------------------------------------------------------------- the binding

CLIENT_SECRET, SERVER_SECRET = 0x1111, 0x2222
CLIENT, SERVER = public_key(CLIENT_SECRET), public_key(SERVER_SECRET)
PAYOUT, REFUND = public_key(0x3333), public_key(0x4444)
TEMPLATE = "kaspa-x402-escrow-v1"


def channel_id(config):
    preimage = (
        h("kaspa:x402:channel:v1")
        + h(config["network"])
        + h("KAS")
        + h(config["templateId"])
        + bytes.fromhex(config["clientPublicKey"])
        + bytes.fromhex(config["serverPublicKey"])
        + h(config["payTo"])
        + h(config["refundAddress"])
        + le(config["refundTimeoutDaa"])
        + bytes.fromhex(config["salt"])
    )
    return preimage, h(preimage)


def voucher_digest(given):
    preimage = (
        h("kaspa:x402:escrow-voucher:v1")
        + h(given["network"])
        + h(bytes.fromhex(given["activeScriptPublicKey"]))
        + bytes.fromhex(given["outpoint"]["txid"])
        + le(given["outpoint"]["index"], 4)
        + le(given["amount"])
    )
    return preimage, h(preimage)


def number_push(number):
    """The shortest push of the shortest script number that is not negative."""
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes([0x50 + number])
    data = le(number, number.bit_length() // 8 + 1)
    return bytes([len(data)]) + data


def escrow_script(given):
    """The sample's bytes between its slots."""
    client, server = bytes.fromhex(given["clientPublicKey"]), bytes.fromhex(given["serverPublicKey"])
    parts = [
        "6b6c76009c6375527920", server,
        "ac697820", h("kaspa:x402:escrow-voucher:v1"),
        "20", h(given["network"]),
        "7eb9bfa87eb9ba7eb9bb54cd7e52797ea820", client,
        "d76976b4529c6900c278a16900c3a820", bytes.fromhex(given["payoutScriptPublicKeyHash"]),
        "876951c3b9bf876951c2b9be527994a269007a75757575516776519c63757620", client,
        "ac69", number_push(int(given["timeoutDaa"])),
        "b0b9bd0058cd8769b4519c6900c3a820", bytes.fromhex(given["refundScriptPublicKeyHash"]),
        "87697551677500696868",
    ]
    redeem = b"".join(bytes.fromhex(part) if isinstance(part, str) else part for part in parts)
    lock = b"\x00\x00\xaa\x20" + hashlib.blake2b(redeem, digest_size=32).digest() + b"\x87"
    return redeem, lock


def requirements_hash(accepted):
    extra = accepted["extra"]
    return h(
        h("kaspa:x402:batch-payment-requirements:v1")
        + h("batch-settlement")
        + h(accepted["network"])
        + h("KAS")
        + le(accepted["amount"])
        + h(accepted["payTo"])
        + le(accepted["maxTimeoutSeconds"])
        + h("kaspa-escrow-v1")
        + h(extra["templateId"])
        + bytes.fromhex(extra["serverPublicKey"])
        + le(extra["minDepositSompi"])
        + le(extra["refundTimeoutDaa"])
    )


def commitment_id(given):
    return h(
        h("kaspa:x402:batch-commitment:v1")
        + bytes.fromhex(given["channelId"])
        + bytes.fromhex(given["requestFingerprint"])
        + requirements_hash(given["accepted"])
        + bytes.fromhex(given["activeOutpoint"]["txid"])
        + le(given["activeOutpoint"]["index"], 4)
        + le(given["voucher"]["amount"])
        + h(bytes.fromhex(given["voucher"]["signature"]))
        + le(given["chargedAmount"])
        + le(given["chargedCumulativeBefore"])
        + le(given["chargedCumulativeAfter"])
        + le(given["claimedCumulativeAmount"])
    )


# ---------------------------------------------------------------- the cases


def config(**changes):
    network = changes.get("network", "kaspa:simnet")
    base = {
        "network": network,
        "asset": "KAS",
        "templateId": TEMPLATE,
        "clientPublicKey": CLIENT,
        "serverPublicKey": SERVER,
        "payTo": p2pk(network, PAYOUT),
        "refundAddress": p2pk(network, REFUND),
        "refundTimeoutDaa": "500000",
        "salt": "5a" * 32,
    }
    return base | changes


def script_input(**changes):
    lock = lambda key: b"\x00\x00\x20" + bytes.fromhex(key) + b"\xac"
    base = {
        "clientPublicKey": CLIENT,
        "serverPublicKey": SERVER,
        "network": "kaspa:simnet",
        "payoutScriptPublicKeyHash": h(lock(PAYOUT)).hex(),
        "refundScriptPublicKeyHash": h(lock(REFUND)).hex(),
        "timeoutDaa": "500000",
    }
    return base | changes


def accepted(extra=None, **changes):
    base = {
        "scheme": "batch-settlement",
        "network": "kaspa:simnet",
        "amount": "1000000",
        "asset": "KAS",
        "payTo": p2pk("kaspa:simnet", PAYOUT),
        "maxTimeoutSeconds": 60,
        "extra": {
            "binding": "kaspa-escrow-v1",
            "templateId": TEMPLATE,
            "serverPublicKey": SERVER,
            "minDepositSompi": "100000000",
            "refundTimeoutDaa": "500000",
            "offer": "v1",
        }
        | (extra or {}),
    }
    return base | changes


def commitment(**changes):
    base = {
        "accepted": accepted(),
        "channelId": channel_id(config())[1].hex(),
        "requestFingerprint": "77" * 32,
        "activeOutpoint": {"txid": "33" * 32, "index": 1},
        "voucher": {"amount": "3000000", "signature": "ab" * 64},
        "chargedAmount": "900000",
        "chargedCumulativeBefore": "2500000",
        "chargedCumulativeAfter": "3400000",
        "claimedCumulativeAmount": "500000",
    }
    return base | changes


def cases():
    for name, reason, given in [
        ("base", "an ordinary channel", config()),
        ("other-salt", "the salt alone makes another channel", config(salt="5b" + "5a" * 31)),
        ("other-timeout", "one DAA score later", config(refundTimeoutDaa="500001")),
        ("other-network", "the same keys on testnet", config(network="kaspa:testnet-10")),
        ("keys-swapped", "client and server key are told apart", config(clientPublicKey=SERVER, serverPublicKey=CLIENT)),
        ("p2sh-payout", "a script hash as recipient", config(payTo=address("kaspasim", 8, bytes.fromhex(PAYOUT)))),
    ]:
        preimage, digest = channel_id(given)
        yield f"channel-id-{name}", {
            "kind": "channel-id", "reason": reason, "input": given,
            "expected": {"preimage": preimage.hex(), "channelId": digest.hex()},
        }

    _, lock = escrow_script(script_input())
    vouchers = []
    for name, network, index, amount in [
        ("base", "kaspa:simnet", 0, 1_000_000),
        ("zero", "kaspa:simnet", 0, 0),
        ("largest-signed-number", "kaspa:simnet", 0, 2**63 - 1),
        ("index-255", "kaspa:simnet", 255, 1_000_000),
        ("index-256", "kaspa:simnet", 256, 1_000_000),
        ("testnet", "kaspa:testnet-10", 0, 1_000_000),
    ]:
        given = {
            "network": network, "activeScriptPublicKey": lock.hex(),
            "outpoint": {"txid": "0123456789abcdef" * 4, "index": index}, "amount": str(amount),
        }
        preimage, digest = voucher_digest(given)
        vouchers.append({"name": name, "input": given, "expected": {"preimage": preimage.hex(), "digest": digest.hex()}})
    yield "voucher-digest", {"kind": "voucher-digest", "cases": vouchers}

    digest = bytes.fromhex(vouchers[0]["expected"]["digest"])
    other = bytes.fromhex(vouchers[5]["expected"]["digest"])
    good = schnorr_sign(CLIENT_SECRET, digest)
    flipped = good[:-2] + f"{int(good[-2:], 16) ^ 1:02x}"
    for name, reason, message, signature, key in [
        ("valid", "the client's signature", digest, good, CLIENT),
        ("other-aux", "another nonce, as valid", digest, schnorr_sign(CLIENT_SECRET, digest, b"\x07" * 32), CLIENT),
        ("other-digest", "the same amount on another network", other, good, CLIENT),
        ("other-key", "the server's key", digest, good, SERVER),
        ("one-bit", "one bit of s", digest, flipped, CLIENT),
        ("r-outside-the-field", "r is not below the field's size", digest, "ff" * 32 + good[64:], CLIENT),
        ("s-outside-the-order", "s is not below the group's order", digest, good[:64] + f"{N:064x}", CLIENT),
        ("key-not-on-the-curve", "no point has this coordinate", digest, good, "ff" * 32),
        ("zeros", "no signature at all", digest, "00" * 64, CLIENT),
    ]:
        yield f"voucher-signature-{name}", {
            "kind": "voucher-signature", "reason": reason,
            "input": {"digest": message.hex(), "signature": signature, "publicKey": key},
            "expected": {"valid": schnorr_verify(key, message, signature)},
        }

    for timeout in [0, 1, 16, 17, 127, 128, 255, 256, 32_767, 32_768, 500_000, 8_388_608, 2**31 - 1, 2**31, 2**38 - 1, 2**38, 499_999_999_999]:
        given = script_input(timeoutDaa=str(timeout))
        redeem, lock = escrow_script(given)
        yield f"escrow-script-timeout-{timeout}", {
            "kind": "escrow-script", "reason": "the width of the timeout's push", "input": given,
            "expected": {"redeemScript": redeem.hex(), "scriptPublicKey": lock.hex()},
        }

    for name, reason, given in [
        ("base", "ordinary terms", accepted()),
        ("other-offer", "the rolling token is not part of it: the same hash as base", accepted({"offer": "v1.k.other"})),
        ("other-amount", "another ceiling", accepted(amount="1000001")),
        ("other-deposit", "another minimum", accepted({"minDepositSompi": "100000001"})),
        ("other-timeout", "another refund timeout", accepted({"refundTimeoutDaa": "500001"})),
        ("other-patience", "another time to answer", accepted(maxTimeoutSeconds=61)),
    ]:
        yield f"requirements-hash-{name}", {
            "kind": "requirements-hash", "reason": reason, "input": given, "expected": {"hash": requirements_hash(given).hex()},
        }

    for name, reason, given in [
        ("base", "an ordinary charge", commitment()),
        ("nothing-charged", "a request that cost nothing", commitment(chargedAmount="0", chargedCumulativeAfter="2500000")),
        ("other-request", "the same charge for another request", commitment(requestFingerprint="78" * 32)),
        ("other-index", "another output of the transaction", commitment(activeOutpoint={"txid": "33" * 32, "index": 2})),
        ("other-signature", "the same voucher signed again", commitment(voucher={"amount": "3000000", "signature": "ac" * 64})),
        ("after-a-claim", "more claimed", commitment(claimedCumulativeAmount="2500000")),
    ]:
        yield f"commitment-id-{name}", {
            "kind": "commitment-id", "reason": reason, "input": given, "expected": {"commitmentId": commitment_id(given).hex()},
        }

    for name, reason, timeout, now in [
        ("before", "one score too early", 500_000, 499_999),
        ("at", "the timeout itself is too early", 500_000, 500_000),
        ("after", "the first score that is late enough", 500_000, 500_001),
    ]:
        yield f"refund-maturity-{name}", {
            "kind": "refund-maturity", "reason": reason, "timeoutDaa": str(timeout), "currentDaa": str(now), "expected": now > timeout,
        }


def main():
    wanted = {f"{name}.json": json.dumps(case, indent=1) + "\n" for name, case in cases()}
    if "--check" in sys.argv[1:]:
        found = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
        different = sorted(name for name in wanted if found.get(name) != wanted[name])
        sys.exit(f"different from what is computed: {', '.join(different)}" if different else 0)
    FOLDER.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
