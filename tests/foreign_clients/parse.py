"""What the x402 package makes of answers: a list of {status, headers} on stdin, a list of what was read on stdout."""

import json
import sys

from pydantic import ValidationError
from x402 import x402ClientSync
from x402.http import x402HTTPClientSync

http = x402HTTPClientSync(x402ClientSync())


def read(answer: dict) -> dict:
    get = answer["headers"].get
    found = {}
    if get("PAYMENT-REQUIRED"):
        found["required"] = http.get_payment_required_response(get).model_dump(by_alias=True, exclude_none=True)
    if get("PAYMENT-RESPONSE"):
        try:
            found["receipt"] = http.get_payment_settle_response(get).model_dump(by_alias=True, exclude_none=True)
        except ValidationError as error:
            # Their sessions do the same, and go on without it.
            found["unread"] = [".".join(fault["loc"]) for fault in error.errors()]
    return found


print(json.dumps([read(answer) for answer in json.load(sys.stdin)]))
