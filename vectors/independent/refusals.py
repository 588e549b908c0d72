"""The negative vectors: one change of a message that is right, and the code with which it is refused.

Used by messages.py, which has the messages.
"""

import escrow_v1 as escrow
from messages import (
    BUYER, CONFIG, FUNDING, GONE, PRICE, SDK, SHOP, SIMNET, TX,
    PAYER, REQUEST, STRANGER,
    called, changed, claimed, corrective, deposit, exact_payment, exact_terms, hash_of, identifier, locked, many_inputs, many_outputs, owned,
    payment_of, pending, proven, refunded, required, sdk_hex, settled, state, supported, undecodable, vouched, voucher,
)

SCHEMA = "payment_header_schema"
AMOUNTS = [
    ("number", 25000000, "an amount is a string"),
    ("negative", "-1", "no sign"),
    ("plus", "+1", "no sign"),
    ("leading-zero", "025000000", "no leading zero"),
    ("fraction", "1.5", "whole sompi"),
    ("exponent", "1e3", "no exponent"),
    ("empty", "", "at least one digit"),
    ("space", " 1", "digits only"),
    ("beyond-64-bits", "18446744073709551616", "64 bits at most"),
    ("beyond-supply", "2900000000000000001", "no more than the network can hold"),
    ("null", None, "never null"),
]
HASHES = [
    ("short", "ab" * 31, "32 bytes"),
    ("long", "ab" * 33, "32 bytes"),
    ("not-hex", "zz" * 32, "hex digits only"),
    ("prefixed", "0x" + "ab" * 31, "no prefix"),
    ("number", 1, "a string"),
]
INDEXES = [
    ("negative", -1, "not below zero"),
    ("text", "0", "a number"),
    ("fraction", 0.5, "a whole number"),
    ("beyond-32-bits", 2**32, "32 bits at most"),
    ("beyond-64-bits", 2**64, "32 bits at most"),
]
SCRIPTS = [
    ("short", "0000aa20" + "ab" * 32, "version, then the whole script"),
    ("other-version", "0001aa20" + "ab" * 32 + "87", "version 0"),
    ("not-hex", "zz" * 37, "hex digits only"),
    ("number", 1, "a string"),
]
SIGNATURES = [("short", "ab" * 63, "64 bytes"), ("long", "ab" * 65, "64 bytes"), ("not-hex", "zz" * 64, "hex digits only"), ("null", None, "a string")]


def wrong(path, values, code):
    """A field with each wrong value, under one code."""
    field = path.rsplit("/", 1)[-1]
    return [(f"{field}-{name}", f"{field}: {reason}", [(path, value)], code) for name, value, reason in values]


def absent(prefix, fields, code):
    return [(f"without-{field}", f"{field} is missing", [(f"{prefix}{field}", GONE)], code) for field in fields]


def envelope():
    """Faults that every payment may have."""
    yield from absent("", ["x402Version", "accepted", "payload"], SCHEMA)
    yield from [
        ("version-1", "only version 2 is spoken", [("x402Version", 1)], "invalid_kaspa_x402_version"),
        ("version-3", "only version 2 is spoken", [("x402Version", 3)], "invalid_kaspa_x402_version"),
        ("version-text", "the version is a number", [("x402Version", "2")], SCHEMA),
        ("unknown-field", "an envelope has no such member", [("more", 1)], SCHEMA),
        ("top-level-extra", "Kaspa data stands under extensions", [("extra", {})], SCHEMA),
        ("resource-text", "a resource is an object", [("resource", "https://api.example.com/report")], SCHEMA),
        ("accepted-null", "accepted is an object", [("accepted", None)], SCHEMA),
        ("accepted-list", "accepted is one offer", [("accepted", [])], SCHEMA),
        ("payload-list", "the payload is an object", [("payload", [])], SCHEMA),
        ("extensions-list", "extensions are an object", [("extensions", [])], SCHEMA),
        ("proof-incomplete", "a payer proof is whole", [("extensions/kaspa", {"payerProof": {"publicKey": "ab" * 32}})], SCHEMA),
        ("proof-unknown-type", "a payer proof is of a known kind",
         [("extensions/kaspa", {"payerProof": {"type": "ecdsa", "publicKey": "ab" * 32, "signature": "ab" * 64}})], SCHEMA),
        ("proof-short-key", "a payer's key has 32 bytes",
         [("extensions/kaspa", {"payerProof": {"type": "schnorr", "publicKey": "ab", "signature": "ab" * 64}})], SCHEMA),
        ("proof-unknown-field", "a payer proof has no such member",
         [("extensions/kaspa", {"payerProof": {"type": "schnorr", "publicKey": "ab" * 32, "signature": "ab" * 64, "more": 1}})], SCHEMA),
        ("identifier-short", "an identifier has at least 16 characters",
         [("extensions/payment-identifier/info/id", "a" * 15)], "payment_identifier_malformed"),
        ("identifier-alphabet", "an identifier has letters, digits, _ and -",
         [("extensions/payment-identifier/info/id", "a" * 16 + "!")], "payment_identifier_malformed"),
        ("identifier-number", "an identifier is a string", [("extensions/payment-identifier/info/id", 1)], "payment_identifier_malformed"),
        ("identifier-not-echoed", "the extension is echoed whole",
         [("extensions/payment-identifier/schema", {})], "payment_identifier_not_echoed"),
        ("identifier-missing", "a required identifier is added",
         [("extensions/payment-identifier", identifier(True))], "payment_identifier_required"),
    ]


def terms():
    """Faults of what was accepted, whatever the scheme."""
    yield from absent("accepted/", ["scheme", "network", "asset"], SCHEMA)
    yield from absent("accepted/", ["amount", "payTo", "maxTimeoutSeconds"], "offer_not_ours")
    yield from absent("accepted/", ["extra"], SCHEMA)
    yield from [
        ("scheme-upto", "not spoken here", [("accepted/scheme", "upto")], "invalid_kaspa_x402_scheme"),
        ("scheme-auth-capture", "not spoken here", [("accepted/scheme", "auth-capture")], "invalid_kaspa_x402_scheme"),
        ("scheme-case", "names are told apart by case", [("accepted/scheme", "Exact")], "invalid_kaspa_x402_scheme"),
        ("scheme-number", "a scheme is a string", [("accepted/scheme", 1)], SCHEMA),
        ("network-alias", "an alias without its colon", [("accepted/network", "simnet")], "invalid_kaspa_x402_network"),
        ("network-unknown", "a network nobody knows", [("accepted/network", "kaspa:testnet-11")], "invalid_kaspa_x402_network"),
        ("network-other-chain", "a network of another chain", [("accepted/network", "eip155:8453")], "invalid_kaspa_x402_network"),
        ("network-not-of-address", "payTo is an address of another network", [("accepted/network", "kaspa:testnet-10")], "invalid_kaspa_x402_network"),
        ("network-null", "a network is a string", [("accepted/network", None)], SCHEMA),
        ("asset-case", "names are told apart by case", [("accepted/asset", "kas")], "invalid_kaspa_x402_asset"),
        ("asset-token", "no other asset", [("accepted/asset", "USDC")], "invalid_kaspa_x402_asset"),
        ("binding-newer", "a binding that is not spoken here", [("accepted/extra/binding", "kaspa-exact-v2")], "invalid_kaspa_x402_binding"),
        ("binding-missing", "a binding is named", [("accepted/extra/binding", GONE)], SCHEMA),
        ("payTo-empty", "an address is not empty", [("accepted/payTo", "")], "offer_not_ours"),
        ("payTo-alias", "an address has its prefix", [("accepted/payTo", SHOP.split(":")[1])], "offer_not_ours"),
        ("payTo-other-network", "an address of another network", [("accepted/payTo", "kaspatest:q")], "invalid_kaspa_x402_network"),
        ("payTo-number", "an address is a string", [("accepted/payTo", 1)], "offer_not_ours"),
        ("maxTimeoutSeconds-zero", "a time to answer is positive", [("accepted/maxTimeoutSeconds", 0)], "offer_not_ours"),
        ("maxTimeoutSeconds-negative", "a time to answer is positive", [("accepted/maxTimeoutSeconds", -1)], "offer_not_ours"),
        ("maxTimeoutSeconds-beyond-floats", "a number that readers would print in two ways", [("accepted/maxTimeoutSeconds", 2**53)], "offer_not_ours"),
        ("maxTimeoutSeconds-text", "a time to answer is a number", [("accepted/maxTimeoutSeconds", "60")], "offer_not_ours"),
        ("maxTimeoutSeconds-fraction", "a time to answer is whole", [("accepted/maxTimeoutSeconds", 0.5)], "offer_not_ours"),
        ("terms-unknown-field", "terms have no such member", [("accepted/more", 1)], "offer_not_ours"),
        ("offer-too-long", "an offer's token is bounded", [("accepted/extra/offer", "v1." + "a" * 510)], "offer_malformed"),
        ("offer-number", "an offer's token is a string", [("accepted/extra/offer", 1)], "offer_not_ours"),
    ]
    yield from wrong("accepted/amount", AMOUNTS, "offer_not_ours")


def exact():
    base = exact_payment()
    yield base, [*envelope(), *terms()]
    yield base, [
        ("finality-unknown", "a level nobody knows", [("accepted/extra/finality", "soon")], "offer_not_ours"),
        ("flow-unknown", "paid upfront or not at all", [("accepted/extra/paymentFlow", "later")], "offer_not_ours"),
        ("type-missing", "a payload says what it is", [("payload/type", GONE)], SCHEMA),
        ("type-number", "a type is a string", [("payload/type", 1)], SCHEMA),
        *[(f"type-{kind}", "belongs to another scheme", [("payload/type", kind)], "invalid_kaspa_x402_payload_type")
          for kind in ["deposit-voucher", "voucher", "claim", "refund", "upto-authorization"]],
        *absent("payload/", ["transaction", "paymentOutputIndex"], SCHEMA),
        *wrong("payload/paymentOutputIndex", INDEXES, SCHEMA),
        *wrong("payload/transactionId", HASHES, SCHEMA),
        *wrong("payload/requestHash", HASHES, SCHEMA),
        ("payerAddress-number", "a hint is a string", [("payload/payerAddress", 1)], SCHEMA),
        *[(f"{field}-null", f"{field} is left out, never null", [(f"payload/{field}", None)], SCHEMA)
          for field in ["payerAddress", "transactionId", "requestHash"]],
        ("transaction-number", "a transaction is a string", [("payload/transaction", 1)], SCHEMA),
        ("transaction-object", "a transaction is hex, not JSON", [("payload/transaction", TX)], SCHEMA),
        ("transaction-empty", "nothing is no transaction", [("payload/transaction", "")], "invalid_kaspa_exact_transaction"),
        ("payload-unknown-field", "a payload has no such member", [("payload/more", 1)], SCHEMA),
        *[(f"transaction-{name}", reason, [("payload/transaction", text)], code) for name, reason, text, code in undecodable()],
        ("transaction-too-long", "longer than any that is taken", [("payload/transaction", "00" * (60 * 1024 + 1))], "invalid_kaspa_exact_transaction"),
        ("transactionId-other", "not the id of the transaction", [("payload/transactionId", "01" * 32)], "invalid_kaspa_exact_transaction_id"),
        ("index-none", "an output that is not there", [("payload/paymentOutputIndex", 2)], "invalid_kaspa_exact_output_index"),
        ("index-largest", "an output that is not there", [("payload/paymentOutputIndex", 2**32 - 1)], "invalid_kaspa_exact_output_index"),
        ("index-other", "an output to somebody else", [("payload/paymentOutputIndex", 1)], "invalid_kaspa_exact_recipient"),
        ("recipient-other", "the terms name somebody else", [("accepted/payTo", escrow.p2pk(SIMNET, escrow.PAYOUT))], "invalid_kaspa_exact_recipient"),
        ("recipient-script-hash", "the same 32 bytes as a script hash are somebody else",
         [("accepted/payTo", escrow.address("kaspasim", 8, bytes.fromhex(TX["outputs"][0]["scriptPublicKey"]["script"][2:66])))],
         "invalid_kaspa_exact_recipient"),
        ("amount-less", "one sompi too little", [("accepted/amount", str(int(PRICE) + 1))], "invalid_kaspa_exact_payment_output"),
        ("amount-more", "one sompi too much", [("accepted/amount", str(int(PRICE) - 1))], "invalid_kaspa_exact_payment_output"),
        ("address-broken", "an address with a wrong letter", [("accepted/payTo", SHOP[:-1] + ("q" if SHOP[-1] != "q" else "p"))], "offer_not_ours"),
    ]
    # Without the id of the first transaction: each of these is another one.
    base = changed(base, ("payload/transactionId", GONE))
    tx = lambda *changes: [("payload/transaction", sdk_hex(changed(TX, *changes)))]
    form = "invalid_kaspa_exact_transaction_form"
    on_1 = [("version", 1), ("inputs/0/computeBudget", 10), ("inputs/0/sigOpCount", 0)]
    yield base, [
        ("two-payments", "two outputs pay the price: which one?", tx(("outputs/1", TX["outputs"][0])), "invalid_kaspa_exact_ambiguous_output"),
        ("no-outputs", "nothing is paid", tx(("outputs", [])), "invalid_kaspa_exact_output_index"),
        ("covenant", "the output is bound to a covenant",
         tx(*on_1, ("outputs/0/covenant", {"authorizingInput": 0, "covenantId": "01" * 32})), "invalid_kaspa_exact_covenant_output"),
        ("version-2-transaction", "a version nobody knows", tx(*on_1, ("version", 2)), form),
        ("gas", "gas is for subnetworks", tx(("gas", 1)), form),
        ("coinbase", "a coinbase pays nobody", tx(("subnetworkId", "01" + "00" * 19)), form),
        ("registry", "only the native subnetwork", tx(("subnetworkId", "02" + "00" * 19)), form),
        ("no-inputs", "nothing is spent", tx(("inputs", [])), form),
        ("too-many-inputs", "more inputs than are looked at",
         [("payload/transaction", many_inputs(257))], form),
        ("too-many-outputs", "more outputs than are looked at",
         [("payload/transaction", sdk_hex(many_outputs(65)))], form),
        ("locked-by-time", "not final before a time", tx(("lockTime", 500_000_000_000)), form),
        ("locked-for-ever", "not final", tx(("lockTime", 2**64 - 1)), form),
    ]


def batch():
    yield deposit(), [
        *[(name, reason, change, code) for name, reason, change, code in envelope() if not name.startswith("identifier-missing")],
        *[row for row in terms() if row[0] not in ("network-not-of-address", "binding-newer", "payTo-empty", "payTo-alias")],
        ("mainnet", "no escrow on mainnet before it is audited", [("accepted/network", "kaspa:mainnet")], "invalid_kaspa_x402_network"),
        ("binding-of-exact", "the binding of the other scheme", [("accepted/extra/binding", "kaspa-exact-v1")], "invalid_kaspa_x402_binding"),
        *absent("accepted/extra/", ["templateId", "serverPublicKey", "minDepositSompi", "refundTimeoutDaa"], "offer_not_ours"),
        ("template-unknown", "another script", [("accepted/extra/templateId", "kaspa-x402-escrow-v2")], "offer_not_ours"),
        *wrong("accepted/extra/serverPublicKey", HASHES, "offer_not_ours"),
        *wrong("accepted/extra/minDepositSompi", AMOUNTS, "offer_not_ours"),
        ("timeout-number", "a DAA score is a string", [("accepted/extra/refundTimeoutDaa", 500000)], "offer_not_ours"),
        ("timeout-timestamp", "from here on the network reads a time", [("accepted/extra/refundTimeoutDaa", "500000000000")], "offer_not_ours"),
        ("state-alone", "both states of a corrective 402 or none", [("accepted/extra/channelState", state())], "offer_not_ours"),
        ("voucher-state-alone", "both states of a corrective 402 or none", [("accepted/extra/voucherState", {"amount": "1"})], "offer_not_ours"),
        ("type-exact", "belongs to the other scheme", [("payload/type", "exact-transfer")], "invalid_kaspa_x402_payload_type"),
        ("type-unknown", "no payload is called so", [("payload/type", "top-up")], "invalid_kaspa_x402_payload_type"),
        ("type-missing", "a payload says what it is", [("payload/type", GONE)], SCHEMA),
        *absent("payload/", ["channelConfig", "channelId", "escrowAddress", "fundingOutpoint", "fundingAmountSompi", "activeScriptPublicKey", "voucher"], SCHEMA),
        *absent("payload/channelConfig/", list(CONFIG), SCHEMA),
        *absent("payload/voucher/", ["amount", "signature"], SCHEMA),
        *absent("payload/fundingOutpoint/", ["txid", "index"], SCHEMA),
        *wrong("payload/channelId", HASHES, SCHEMA),
        *wrong("payload/channelConfig/salt", HASHES, SCHEMA),
        *wrong("payload/channelConfig/clientPublicKey", HASHES, SCHEMA),
        *wrong("payload/channelConfig/serverPublicKey", HASHES, SCHEMA),
        *wrong("payload/fundingOutpoint/txid", HASHES, SCHEMA),
        *wrong("payload/fundingOutpoint/index", INDEXES, SCHEMA),
        *wrong("payload/fundingAmountSompi", AMOUNTS, SCHEMA),
        *wrong("payload/voucher/amount", AMOUNTS, SCHEMA),
        *wrong("payload/voucher/signature", SIGNATURES, SCHEMA),
        ("config-network-unknown", "a network nobody knows", [("payload/channelConfig/network", "simnet")], SCHEMA),
        ("config-asset", "no other asset", [("payload/channelConfig/asset", "USDC")], SCHEMA),
        ("config-template", "another script", [("payload/channelConfig/templateId", "kaspa-x402-escrow-v2")], SCHEMA),
        ("config-timeout-number", "a DAA score is a string", [("payload/channelConfig/refundTimeoutDaa", 500000)], SCHEMA),
        ("config-unknown-field", "a configuration has no such member", [("payload/channelConfig/more", 1)], SCHEMA),
        ("voucher-unknown-field", "a voucher has no such member", [("payload/voucher/more", 1)], SCHEMA),
        ("outpoint-unknown-field", "an outpoint has no such member", [("payload/fundingOutpoint/more", 1)], SCHEMA),
        ("payload-unknown-field", "a payload has no such member", [("payload/more", 1)], SCHEMA),
        ("funding-null", "fundingTransaction is left out, never null", [("payload/fundingTransaction", None)], SCHEMA),
        *[(f"{field}-null", f"{field} is left out, never null", [(f"accepted/extra/{field}", None)], "offer_not_ours")
          for field in ["claimPolicy", "channelState", "voucherState"]],
        ("funding-number", "a transaction is a string", [("payload/fundingTransaction", 1)], SCHEMA),
        ("config-other-network", "not the offered network", [("payload/channelConfig/network", "kaspa:testnet-10")], "invalid_kaspa_x402_network"),
        ("config-other-server", "not the offered key", [("payload/channelConfig/serverPublicKey", escrow.CLIENT)], "invalid_kaspa_escrow_server_key"),
        ("config-other-payTo", "not the offered recipient", [("payload/channelConfig/payTo", BUYER)], "invalid_kaspa_escrow_pay_to"),
        ("config-other-timeout", "not the offered timeout", [("payload/channelConfig/refundTimeoutDaa", "500001")], "invalid_kaspa_escrow_refund_timeout"),
        ("channel-other", "not the id of the configuration", [("payload/channelId", "01" * 32)], "invalid_kaspa_escrow_channel_id"),
        ("salt-other", "the salt is part of the id", [("payload/channelConfig/salt", "5b" * 32)], "invalid_kaspa_escrow_channel_id"),
        ("refund-other-network", "an address of another network", with_config(refundAddress=escrow.p2pk("kaspa:testnet-10", escrow.REFUND)), "invalid_kaspa_escrow_config"),
        ("refund-no-address", "no address at all", with_config(refundAddress="kaspasim:q"), "invalid_kaspa_escrow_config"),
        ("client-key-no-point", "no point has this coordinate", with_config(clientPublicKey="ff" * 32), "invalid_kaspa_escrow_config"),
        ("script-other", "not the script of the configuration", [("payload/activeScriptPublicKey", "0000aa20" + "ab" * 32 + "87")], "invalid_kaspa_escrow_script"),
        *wrong("payload/activeScriptPublicKey", [row for row in SCRIPTS if row[0] != "other-version"], SCHEMA),
        ("script-other-version", "version 0", [("payload/activeScriptPublicKey", "0001aa20" + "ab" * 32 + "87")], "invalid_kaspa_escrow_script"),
        ("address-other", "not the address of the script", [("payload/escrowAddress", BUYER)], "invalid_kaspa_escrow_address"),
        ("deposit-too-small", "below the offered minimum", [("payload/fundingAmountSompi", "99999999")], "deposit_too_small"),
        ("voucher-other-amount", "signed for another amount", [("payload/voucher/amount", "1000001")], "voucher_signature"),
        ("voucher-other-outpoint", "signed for another outpoint", [("payload/fundingOutpoint/index", 1)], "voucher_signature"),
        ("voucher-by-server", "signed by another key", [("payload/voucher/signature", by_server())], "voucher_signature"),
        ("funding-undecodable", "the funding transaction does not decode", [("payload/fundingTransaction", "zz")], "invalid_kaspa_escrow_funding_transaction"),
        ("funding-other", "the funding transaction has another id", [("payload/fundingTransaction", SDK["plainHex"])], "invalid_kaspa_escrow_funding_outpoint"),
        *[(name, reason, change, code) for name, reason, change, code in funded()],
    ]
    common = lambda: [
        *wrong("payload/channelId", HASHES, SCHEMA),
        *wrong("payload/fundingOutpoint/txid", HASHES, SCHEMA),
        *wrong("payload/fundingOutpoint/index", INDEXES, SCHEMA),
        *wrong("payload/activeScriptPublicKey", [row for row in SCRIPTS if row[0] != "other-version"], SCHEMA),
        *wrong("payload/voucher/amount", AMOUNTS, SCHEMA),
        *wrong("payload/voucher/signature", SIGNATURES, SCHEMA),
        ("payload-unknown-field", "a payload has no such member", [("payload/more", 1)], SCHEMA),
        ("voucher-list", "a voucher is an object", [("payload/voucher", [])], SCHEMA),
        ("outpoint-text", "an outpoint is an object", [("payload/fundingOutpoint", "a:1")], SCHEMA),
    ]
    shared = ["channelId", "fundingOutpoint", "activeScriptPublicKey", "voucher"]
    yield vouched(), [
        *common(), *absent("payload/", [*shared, "clientPublicKey"], SCHEMA), *wrong("payload/clientPublicKey", HASHES, SCHEMA),
    ]
    yield claimed(), [*common(), *absent("payload/", [*shared, "claimAmount"], SCHEMA), *wrong("payload/claimAmount", AMOUNTS, SCHEMA)]
    yield refunded(), [
        *common(), *absent("payload/", [*shared, "refundAddress", "refundAmount"], SCHEMA), *wrong("payload/refundAmount", AMOUNTS, SCHEMA),
        ("refundAddress-number", "an address is a string", [("payload/refundAddress", 1)], SCHEMA),
    ]


def with_config(**changes):
    config = CONFIG | changes
    return [("payload/channelConfig", config), ("payload/channelId", escrow.channel_id(config)[1].hex())]


def by_server():
    return escrow.schnorr_sign(escrow.SERVER_SECRET, bytes(32))


def funded():
    """Funding transactions that decode and do not fund this channel; each needs a voucher for its own outpoint."""
    import spends
    from messages import FUNDED, LOCK, id_of_version_0

    lock = LOCK[2:].hex()
    pays = lambda value, script: {"value": value, "scriptPublicKey": {"version": 0, "script": script}, "covenant": None}
    for name, reason, output, index, code in [
        ("funding-other-script", "the output is not locked by the channel's script", pays(FUNDED, "51" * 34), 0, "invalid_kaspa_escrow_funding_script"),
        ("funding-other-amount", "the output holds another amount", pays(FUNDED - 1, lock), 0, "invalid_kaspa_escrow_funding_amount"),
        ("funding-no-output", "no such output", pays(FUNDED, lock), 7, "invalid_kaspa_escrow_funding_outpoint"),
    ]:
        tx = changed(TX, ("outputs", [output]))
        outpoint = {"txid": id_of_version_0(tx), "index": index}
        yield name, reason, [
            ("payload/fundingTransaction", sdk_hex(tx)), ("payload/fundingOutpoint", outpoint), ("payload/voucher", voucher(1_000_000, outpoint)),
        ], code
    tx = changed(TX, ("outputs", [pays(FUNDED, lock)]), ("gas", 1))
    outpoint = {"txid": id_of_version_0(tx), "index": 0}
    yield "funding-gas", "the transaction is no ordinary one", [
        ("payload/fundingTransaction", sdk_hex(tx)), ("payload/fundingOutpoint", outpoint), ("payload/voucher", voucher(1_000_000, outpoint)),
    ], "invalid_kaspa_escrow_funding_transaction"


    bound = {"covenant": {"authorizingInput": 0, "covenantId": "01" * 32}}
    on_1 = [("version", 1), ("inputs/0/computeBudget", 10), ("inputs/0/sigOpCount", 0)]
    tx = changed(TX, *on_1, ("outputs", [pays(FUNDED, lock) | bound]))
    outpoint = {"txid": spends.id_of(tx), "index": 0}
    yield "funding-covenant", "the output is bound to a covenant", [
        ("payload/fundingTransaction", sdk_hex(tx)), ("payload/fundingOutpoint", outpoint), ("payload/voucher", voucher(1_000_000, outpoint)),
    ], "deposit_covenant"


def by_facts():
    """What only the request, the score of the network or the spent outputs show to be wrong."""
    mismatch, invalid, form = "invalid_kaspa_exact_request_hash", "payer_proof_invalid", "invalid_kaspa_exact_transaction_form"
    hashed = lambda request, terms=None: changed(exact_payment(), ("payload/requestHash", hash_of(request, terms or exact_terms()).hex()))
    unhashed = changed(exact_payment(), ("payload/requestHash", GONE))
    spent = {"request": REQUEST, "spentScripts": owned(STRANGER + 1, PAYER)}
    key, other = escrow.public_key(PAYER), REQUEST | {"body": "{\"model\":\"large\"}"}
    by_wallet = proven(PAYER, kind="personal-message")
    for name, reason, value, facts, code in [
        ("request-hash-other", "the hash of nothing", exact_payment(), {"request": REQUEST}, mismatch),
        ("request-hash-other-method", "of another method", hashed(REQUEST | {"method": "PUT"}), {"request": REQUEST}, mismatch),
        ("request-hash-other-url", "of another URL", hashed(REQUEST | {"url": REQUEST["url"] + "?"}), {"request": REQUEST}, mismatch),
        ("request-hash-other-body", "of another body", hashed(other), {"request": REQUEST}, mismatch),
        ("request-hash-no-body", "of no body", hashed(REQUEST | {"body": None}), {"request": REQUEST}, mismatch),
        ("request-hash-other-terms", "under another offer", hashed(REQUEST, exact_terms({"offer": "v1.other"})), {"request": REQUEST}, mismatch),
        ("request-hash-missing", "where it has to be there", unhashed, {"request": REQUEST, "requestHashRequired": True}, "kaspa_exact_request_hash_required"),
        ("proof-missing", "the network knew the transaction first: its payer is proven", unhashed, spent, "payer_proof_required"),
        ("proof-by-stranger", "the key of no input", proven(STRANGER), spent, invalid),
        ("proof-for-the-payer", "the payer's key under a stranger's signature", proven(STRANGER, publicKey=key), spent, invalid),
        ("proof-other-request", "over another request", proven(PAYER, other), spent, invalid),
        ("proof-as-a-message", "a signature of the hash is not one of a message", proven(PAYER, type="personal-message"), spent, invalid),
        ("proof-as-a-hash", "nor is one of a message one of the hash", changed(by_wallet, ("extensions/kaspa/payerProof/type", "schnorr")), spent, invalid),
        ("proof-short", "a signature has 64 bytes", proven(PAYER, signature="ab"), spent, invalid),
        ("proof-script-hash", "a script hash of the key's bytes is nobody's key", proven(PAYER), spent | {"spentScripts": ["0000aa20" + key + "87"]}, invalid),
        ("proof-other-version", "a script of another version is not known", proven(PAYER), spent | {"spentScripts": ["000120" + key + "ac"]}, invalid),
        ("proof-of-nothing", "nothing that was spent is known", proven(PAYER), spent | {"spentScripts": []}, invalid),
        ("locked-at", "the lock time itself is too early", payment_of(locked(1_000, 0)), {"daaScore": "1000"}, form),
        ("locked-later", "not final before a later score", payment_of(locked(2_000, 0)), {"daaScore": "1000"}, form),
    ]:
        yield {"name": name, "reason": reason, "schema": "payment-payload", "value": value, "facts": facts, "expectedError": code}


def of_servers():
    """What a client refuses: these messages are read by no gateway."""
    base = required(exact_terms(), escrow.accepted())
    any_terms = "invalid_payment_requirements"
    yield "payment-required", base, [
        *absent("", ["resource", "accepts"], any_terms),
        ("without-version", "the version is missing", [("x402Version", GONE)], "invalid_kaspa_x402_version"),
        ("version-1", "only version 2 is spoken", [("x402Version", 1)], "invalid_kaspa_x402_version"),
        ("no-offers", "a 402 without an offer cannot be paid", [("accepts", [])], any_terms),
        ("resource-text", "a resource is an object", [("resource", "x")], any_terms),
        ("resource-without-url", "a resource has a URL", [("resource/url", GONE)], any_terms),
        ("unknown-field", "no such member", [("more", 1)], any_terms),
        ("scheme-upto", "not spoken here", [("accepts/0/scheme", "upto")], "invalid_kaspa_x402_scheme"),
        ("network-alias", "an alias without its colon", [("accepts/0/network", "simnet")], "invalid_kaspa_x402_network"),
        ("asset", "no other asset", [("accepts/0/asset", "USDC")], "invalid_kaspa_x402_asset"),
        ("binding", "the binding of the other scheme", [("accepts/0/extra/binding", "kaspa-escrow-v1")], "invalid_kaspa_x402_binding"),
        ("binding-missing", "a binding is named", [("accepts/0/extra/binding", GONE)], "invalid_kaspa_x402_binding"),
        ("payTo-other-network", "an address of another network", [("accepts/0/payTo", "kaspatest:q")], "invalid_kaspa_x402_pay_to"),
        ("payTo-missing", "somebody is paid", [("accepts/0/payTo", GONE)], "invalid_kaspa_x402_pay_to"),
        ("timeout-zero", "a time to answer is positive", [("accepts/0/maxTimeoutSeconds", 0)], any_terms),
        ("finality-unknown", "a level nobody knows", [("accepts/0/extra/finality", "soon")], any_terms),
        ("flow-unknown", "paid upfront or not at all", [("accepts/0/extra/paymentFlow", "later")], any_terms),
        ("terms-unknown-field", "terms have no such member", [("accepts/0/more", 1)], any_terms),
        ("batch-mainnet", "no escrow on mainnet before it is audited", [("accepts/1/network", "kaspa:mainnet"), ("accepts/1/payTo", "kaspa:q")], "invalid_kaspa_x402_network"),
        ("server-key-short", "a key has 32 bytes", [("accepts/1/extra/serverPublicKey", "33")], "invalid_kaspa_public_key"),
        ("timeout-timestamp", "from here on the network reads a time", [("accepts/1/extra/refundTimeoutDaa", "500000000000")], any_terms),
        ("state-alone", "both states or none", [("accepts/1/extra/channelState", state())], any_terms),
        ("identifier-incomplete", "the extension says whether it is required", [("extensions/payment-identifier/info", {})], any_terms),
        *[(f"amount-{name}", f"amount: {reason}", [("accepts/0/amount", value)], "invalid_kaspa_x402_amount") for name, value, reason in AMOUNTS],
    ]
    yield "corrective-402", corrective(), [
        ("without-state", "where the channel stands", [("accepts/0/extra/channelState", GONE), ("accepts/0/extra/voucherState", GONE)], any_terms),
        ("without-voucher", "both states or none", [("accepts/0/extra/voucherState", GONE)], any_terms),
        ("without-reason", "what is corrected", [("extensions/kaspa", GONE)], any_terms),
        ("state-signature", "a signature has 64 bytes", [("accepts/0/extra/voucherState/signature", "ab")], "invalid_kaspa_signature"),
    ]
    yield "channel-state", state(), [
        *absent("", ["fundingAmount", "chargedCumulativeAmount", "claimedCumulativeAmount", "signedMaxClaimable"], "invalid_kaspa_x402_amount"),
        *absent("", ["activeScriptPublicKey"], "invalid_kaspa_batch_channel_state"),
        ("channel-short", "an id has 32 bytes", [("channelId", "ab")], "invalid_kaspa_batch_channel_id"),
        ("outpoint-index", "an index has 32 bits", [("activeOutpoint/index", 2**32)], "invalid_kaspa_outpoint"),
        ("script-version", "version 0", [("activeScriptPublicKey", "0001aa")], "invalid_kaspa_batch_channel_state"),
        ("amount-number", "an amount is a string", [("fundingAmount", 1)], "invalid_kaspa_x402_amount"),
        ("unknown-field", "no such member", [("more", 1)], "invalid_kaspa_batch_channel_state"),
    ]
    yield "settlement-response", settled(), [
        ("empty-success", "only a stream succeeds without a transaction", [("transaction", "")], "invalid_kaspa_settlement_response"),
        ("short-transaction", "an id has 32 bytes", [("transaction", "ab")], "invalid_kaspa_transaction"),
        ("amount-number", "an amount is a string", [("amount", 1)], "invalid_kaspa_x402_amount"),
        ("network-alias", "an alias without its colon", [("network", "simnet")], "invalid_kaspa_x402_network"),
        ("extra", "never a top-level extra", [("extra", {})], "invalid_kaspa_settlement_response"),
    ]
    yield "settlement-response", pending(), [
        ("pending-without-transaction", "what is pending is a transaction", [("transaction", "")], "invalid_kaspa_transaction"),
        ("pending-without-reason", "a failure says why", [("errorReason", GONE)], "invalid_kaspa_settlement_response"),
    ]
    yield "facilitator-request", called(), [
        *absent("", ["paymentPayload", "paymentRequirements"], "invalid_payload"),
        ("version-1", "only version 2 is spoken", [("x402Version", 1)], "invalid_x402_version"),
        ("request-hash-short", "a hash has 32 bytes", [("requestHash", "ab")], "invalid_payload"),
        ("resource-text", "a resource is an object", [("resource", "x")], "invalid_payload"),
        ("unknown-field", "a call has no such member", [("more", 1)], "invalid_payload"),
        ("payload-type", "belongs to another scheme", [("paymentPayload/payload/type", "voucher")], "invalid_kaspa_x402_payload_type"),
        ("terms-differ", "accepted is paymentRequirements, member by member", [("paymentRequirements/amount", "1")], "offer_not_ours"),
        ("extra-differs", "accepted is paymentRequirements, member by member", [("paymentRequirements/extra/theirs", 1)], "offer_not_ours"),
        ("version-text", "the version is a number", [("x402Version", "2")], "facilitator_call_malformed"),
        ("request-hash-null", "left out, never null", [("requestHash", None)], "facilitator_call_malformed"),
        ("payment-text", "a payment is an object", [("paymentPayload", "e30=")], "facilitator_call_malformed"),
    ]
    yield "facilitator-supported", supported(), [
        *absent("", ["kinds", "extensions", "signers"], "invalid_payload"),
        ("mode-unknown", "a mode nobody knows", [("kinds/0/extra/modes", ["verify", "burn"])], "invalid_payload"),
        ("claim-of-exact", "there is nothing to claim under exact", [("kinds/0/extra/modes", ["claim"])], "invalid_payload"),
        ("scheme-upto", "not spoken here", [("kinds/0/scheme", "upto")], "invalid_kaspa_x402_scheme"),
        ("binding", "the binding of the other scheme", [("kinds/0/extra/binding", "kaspa-escrow-v1")], "invalid_kaspa_x402_binding"),
    ]
    yield "facilitator-verify-response", {"isValid": False, "invalidReason": "invalid_payload"}, [
        ("without-reason", "what is invalid", [("invalidReason", GONE)], "invalid_payload"),
        ("valid-with-reason", "what is valid has no reason", [("isValid", True)], "invalid_payload"),
        ("truth-as-text", "true or false", [("isValid", "false")], "invalid_payload"),
    ]
    yield "facilitator-settle-response", settled() | {"errorMessage": "x"}, [
        ("without-amount", "a success names its amount", [("amount", GONE)], "invalid_kaspa_x402_amount"),
        ("unknown-field", "no such member", [("more", 1)], "invalid_kaspa_settlement_response"),
    ]


def negative(schema, groups, cut=lambda message: message):
    found = []
    for base, rows in groups:
        for name, reason, changes, code in rows:
            found.append({"name": name, "reason": reason, "schema": schema, "value": cut(changed(base, *changes)), "expectedError": code})
    return {"kind": "negative", "cases": found}


def cases():
    yield "negative/exact-transfer", negative("payment-payload", exact())
    deposits, *others = batch()
    yield "negative/deposit-voucher", negative("payment-payload", [deposits])
    for name, group in zip(["voucher", "claim", "refund"], others):
        yield f"negative/{name}", negative("payment-payload", [group])
    by_schema = {}
    for schema, base, rows in of_servers():
        by_schema.setdefault(schema, []).append((base, rows))
    for schema, groups in by_schema.items():
        yield f"negative/{schema}", negative(schema, groups)
    yield "negative/by-facts", {"kind": "negative", "cases": list(by_facts())}
    yield "negative/not-objects", {"kind": "negative", "cases": [
        {"name": f"{schema}-{name}", "reason": f"{reason} is no message", "schema": schema, "value": value, "expectedError": code}
        for schema, code in [("payment-payload", SCHEMA), ("kaspa-payment-payload", SCHEMA), ("payment-requirements", SCHEMA), ("payment-required", "invalid_payment_requirements"),
                             ("settlement-response", "invalid_kaspa_settlement_response")]
        for name, value, reason in [("list", [], "a list"), ("text", "x", "a text"), ("number", 2, "a number"), ("null", None, "null"), ("truth", True, "true"), ("empty", {}, "an empty object")]
    ]}
