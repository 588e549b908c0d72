"""The scheme `exact` of kas402 for the x402 client: signs with the Kaspa SDK and never broadcasts.

The gateway broadcasts. A transaction that the network knew before the gateway did is served only
with a proof of the payer's key.
"""

import asyncio
import json
import secrets
from concurrent.futures import ThreadPoolExecutor

from kaspa import Address, PrivateKey, RpcClient, create_transactions
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements

NETWORKS = {"kaspa:mainnet": "mainnet", "kaspa:testnet-10": "testnet-10", "kaspa:simnet": "simnet"}


class ExactKaspaScheme:
    """For `x402ClientSync.register` and `x402Client.register`."""

    scheme = "exact"

    def __init__(self, secret_key: str, node: str):
        """`secret_key` as 64 hex digits; `node` is the Borsh wRPC URL of a node with --utxoindex."""
        self._key = PrivateKey(secret_key)
        self._node = node

    def create_payment_payload(self, requirements: PaymentRequirements) -> dict:
        """The payload of one payment: a signed transaction as the SDK writes it, in hex."""
        if requirements.asset != "KAS" or requirements.extra.get("binding") != "kaspa-exact-v1":
            raise ValueError(f"not a payment in KAS: {requirements}")
        network = NETWORKS[requirements.network]
        own = self._key.to_address(network)
        # In a thread: the asynchronous client calls this on its running loop.
        with ThreadPoolExecutor(1) as thread:
            coins = thread.submit(asyncio.run, self._coins(own, network)).result()
        made = create_transactions(
            entries=coins,
            change_address=own,
            network_id=network,
            outputs=[{"address": Address(requirements.pay_to), "amount": int(requirements.amount)}],
            priority_fee=0,
        )
        # More than one: the coins are too many and too small for one transaction.
        [pending] = made["transactions"]
        pending.sign([self._key])
        return {
            "type": "exact-transfer",
            "payerAddress": own.to_string(),
            "transaction": json.dumps(pending.transaction.to_dict()).encode().hex(),
            "transactionId": pending.id,
            "paymentOutputIndex": 0,
        }

    async def _coins(self, own: Address, network: str) -> list:
        rpc = RpcClient(url=self._node, encoding="borsh", network_id=network)
        await rpc.connect(timeout_duration=10_000)
        try:
            found = await rpc.get_utxos_by_addresses({"addresses": [own.to_string()]})
        finally:
            await rpc.disconnect()
        return found["entries"]


class PaymentIdentifier:
    """For `register_extension`: gives every payment an identifier, where the server knows them."""

    key = "payment-identifier"

    def enrich_payment_payload(self, payload: PaymentPayload, required: PaymentRequired) -> PaymentPayload:
        if self.key not in (required.extensions or {}):
            return payload
        # The client merges this with what the server advertised, which must be echoed whole.
        return payload.model_copy(update={"extensions": {self.key: {"info": {"id": secrets.token_urlsafe(16)}}}})
