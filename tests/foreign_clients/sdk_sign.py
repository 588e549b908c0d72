"""Signs what pays an offer, with the Kaspa SDK alone: sdk_sign.py NODE NETWORK PAY_TO SOMPI; prints id and transaction."""

import asyncio
import json
import os
import sys

from kaspa import PrivateKey, RpcClient, create_transactions


async def main(node: str, network: str, pay_to: str, sompi: str) -> None:
    key = PrivateKey(os.environ["KASPA_SECRET_KEY"])
    own = key.to_address(network)
    rpc = RpcClient(url=node, encoding="borsh", network_id=network)
    await rpc.connect()
    coins = (await rpc.get_utxos_by_addresses({"addresses": [own.to_string()]}))["entries"]
    await rpc.disconnect()
    made = create_transactions(
        entries=coins,
        change_address=own,
        network_id=network,
        outputs=[{"address": pay_to, "amount": int(sompi)}],
        priority_fee=0,
    )
    [pending] = made["transactions"]
    pending.sign([key])
    print(json.dumps({"id": pending.id, "transaction": pending.transaction.to_dict()}), flush=True)


asyncio.run(main(*sys.argv[1:]))
# Threads of the SDK outlive its connections, and now and then abort an interpreter that ends.
os._exit(0)
