"""Fetches a URL and pays for it when asked: python pay.py URL MAX_SOMPI

KASPA_SECRET_KEY and KASPA_NODE say who pays and which node knows the coins. A payment that is not
decided is kept in a file beside, and the same command sends it again instead of paying twice.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import requests
from x402 import x402ClientSync
from x402.http import decode_payment_response_header, encode_payment_signature_header
from x402.http.clients import x402_requests

from kaspa_exact import NETWORKS, ExactKaspaScheme, PaymentIdentifier


def undecided(answer: requests.Response) -> bool:
    """Whether the payment stays good, and is to be sent again."""
    return answer.status_code in {429, 500, 502, 503, 504} or (answer.status_code == 409 and "Retry-After" in answer.headers)


def fetch(url: str, max_sompi: str) -> requests.Response:
    kept = Path(hashlib.sha256(url.encode()).hexdigest()[:16] + ".payment")
    client = x402ClientSync()
    scheme = ExactKaspaScheme(os.environ["KASPA_SECRET_KEY"], os.environ["KASPA_NODE"])
    for network in NETWORKS:
        client.register(network, scheme)
    client.register_extension(PaymentIdentifier())
    allowed = {"network": "kaspa:*", "asset": "KAS", "max_amount_per_payment": max_sompi}
    client.set_spend_controls({"allowed_assets": [allowed]})
    # On disk before it is sent.
    client.on_after_payment_creation(lambda made: kept.write_text(encode_payment_signature_header(made.payment_payload)))

    def again() -> requests.Response:
        return requests.get(url, headers={"PAYMENT-SIGNATURE": kept.read_text()}, timeout=60, allow_redirects=False)

    response = again() if kept.exists() else x402_requests(client).get(url, timeout=60, allow_redirects=False)
    for _ in range(20):
        if not (kept.exists() and undecided(response)):
            break
        time.sleep(int(response.headers.get("Retry-After", 1)))
        response = again()
    if response.ok:
        kept.unlink(missing_ok=True)
    return response


if __name__ == "__main__":
    answer = fetch(sys.argv[1], sys.argv[2])
    print(answer.status_code, answer.text)
    if "PAYMENT-RESPONSE" in answer.headers:
        receipt = decode_payment_response_header(answer.headers["PAYMENT-RESPONSE"])
        print(f"receipt: success={receipt.success} amount={receipt.amount} transaction={receipt.transaction}")
    sys.stdout.flush()
    # Threads of the SDK outlive its connections, and now and then abort an interpreter that ends.
    os._exit(0 if answer.ok else 1)
