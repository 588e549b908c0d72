"""What pay.py of the examples does, with the asynchronous client of x402 over httpx: python pay_async.py URL MAX_SOMPI"""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import httpx
from x402 import x402Client
from x402.http import decode_payment_response_header, encode_payment_signature_header
from x402.http.clients.httpx import wrapHttpxWithPayment

from kaspa_exact import NETWORKS, ExactKaspaScheme, PaymentIdentifier


def undecided(answer: httpx.Response) -> bool:
    return answer.status_code in {429, 500, 502, 503, 504} or (answer.status_code == 409 and "Retry-After" in answer.headers)


async def fetch(url: str, max_sompi: str) -> httpx.Response:
    kept = Path(hashlib.sha256(url.encode()).hexdigest()[:16] + ".payment")
    client = x402Client()
    scheme = ExactKaspaScheme(os.environ["KASPA_SECRET_KEY"], os.environ["KASPA_NODE"])
    for network in NETWORKS:
        client.register(network, scheme)
    client.register_extension(PaymentIdentifier())
    allowed = {"network": "kaspa:*", "asset": "KAS", "max_amount_per_payment": max_sompi}
    client.set_spend_controls({"allowed_assets": [allowed]})

    async def keep(made) -> None:
        kept.write_text(encode_payment_signature_header(made.payment_payload))

    client.on_after_payment_creation(keep)
    async with httpx.AsyncClient(timeout=60) as plain, wrapHttpxWithPayment(client, timeout=60) as paying:

        async def again() -> httpx.Response:
            return await plain.get(url, headers={"PAYMENT-SIGNATURE": kept.read_text()})

        response = await again() if kept.exists() else await paying.get(url)
        for _ in range(20):
            if not (kept.exists() and undecided(response)):
                break
            await asyncio.sleep(int(response.headers.get("Retry-After", 1)))
            response = await again()
    if response.is_success:
        kept.unlink(missing_ok=True)
    return response


answer = asyncio.run(fetch(sys.argv[1], sys.argv[2]))
print(answer.status_code, answer.text)
if "PAYMENT-RESPONSE" in answer.headers:
    receipt = decode_payment_response_header(answer.headers["PAYMENT-RESPONSE"])
    print(f"receipt: success={receipt.success} amount={receipt.amount} transaction={receipt.transaction}")
sys.stdout.flush()
# Threads of the SDK outlive its connections, and now and then abort an interpreter that ends.
os._exit(0 if answer.is_success else 1)
