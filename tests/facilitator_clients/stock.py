"""The facilitator client of x402 as it is: calls from stdin, what it made of the answers to stdout."""

import json
import sys

from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync
from x402.http.facilitator_client_base import CreateHeadersAuthProvider
from x402.schemas import PaymentPayload, PaymentRequirements

task = json.load(sys.stdin)


def client(bearer):
    headers = {"Authorization": f"Bearer {bearer}"}
    provider = CreateHeadersAuthProvider(lambda: {"verify": headers, "settle": headers, "supported": headers})
    return HTTPFacilitatorClientSync(FacilitatorConfig(url=task["url"], auth_provider=provider))


def told(call):
    try:
        return call().model_dump(by_alias=True, exclude_none=True, mode="json")
    except Exception as error:
        return {"thrown": type(error).__name__, "message": str(error)}


tenant, stranger = client(task["token"]), client(task["wrong"])
said = [told(tenant.get_supported), told(stranger.get_supported)]
for call in task["calls"]:
    who = stranger if call.get("by") == "stranger" else tenant
    payment = PaymentPayload.model_validate(call["payment"])
    requirements = PaymentRequirements.model_validate(call["requirements"])
    said.append(told(lambda: getattr(who, call["act"])(payment, requirements)))
print(json.dumps(said))
