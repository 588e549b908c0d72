#!/usr/bin/env python3
"""Writes the seeds of every fuzz target: from the vectors, the configurations and the cases that were found.

seeds.py <folder> fills <folder>/<target>/.
"""

import base64
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = pathlib.Path(sys.argv[1])
BY_TYPE = {
    "exact-transfer": "exact_transfer",
    "deposit-voucher": "deposit_voucher",
    "voucher": "voucher",
    "claim": "claim",
    "refund": "refund",
}
count = 0


def add(target, data):
    global count
    count += 1
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{count:05}").write_bytes(data if isinstance(data, bytes) else data.encode())


def calls(payment):
    """Messages of MCP around a payment."""
    meta = {"progressToken": 1, "x402/payment": payment}
    yield {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"n": 1.5}, "_meta": meta}}
    yield {"jsonrpc": "2.0", "id": "x", "method": "ping", "params": {"_meta": meta}}


def harvest(value):
    """Whatever in a vector some target reads."""
    if isinstance(value, dict):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        kind = value.get("type")
        if isinstance(kind, str) and kind in BY_TYPE:
            add(BY_TYPE[kind], text)
        if "x402Version" in value:
            add("payment", text)
            add("header", base64.b64encode(text.encode()))
        if "paymentPayload" in value:
            add("facilitator_call", text)
        if "accepted" in value and "payload" in value:
            for message in calls(value):
                add("mcp_message", json.dumps(message, separators=(",", ":")))
        if isinstance(value.get("header"), str):
            add("header", value["header"])
        if isinstance(value.get("body"), str) and "sold" in value:
            add("mcp_message", value["body"])
        if isinstance(value.get("json"), str):
            add("payment", value["json"])
        if "scheme" in value and "extra" in value:
            add("requirements", text)
        for member in value.values():
            harvest(member)
    elif isinstance(value, list):
        for item in value:
            harvest(item)
    elif isinstance(value, str):
        if value.startswith("/"):
            add("path", value)
        elif value.startswith("v1."):
            add("offer_token", value)
        elif len(value) > 150:
            try:
                add("transaction", bytes.fromhex(value))
            except ValueError:
                pass


for path in sorted((ROOT / "vectors").rglob("*.json")):
    try:
        harvest(json.loads(path.read_text()))
    except ValueError:
        # A vector may be no JSON on purpose.
        add("payment", path.read_bytes())
for folder in ("config", "tests/config_cases", "deploy"):
    for path in sorted((ROOT / folder).rglob("*.yaml")):
        add("yaml", path.read_bytes())
for path in sorted((ROOT / "fuzz/cases").rglob("*")):
    if path.is_file():
        add(path.parent.name, path.read_bytes())
RESULT = {"jsonrpc": "2.0", "id": "kas402call1", "result": {"content": [], "isError": False, "_meta": {"a": 1}}}
for message in [RESULT, [RESULT], {"id": 1, "error": {"code": -1, "data": {}}}, {"id": 2, "method": "tools/list"}]:
    add("mcp_message", json.dumps(message))
    for end in ("\n", "\r\n", "\r"):
        for pieces in (1, 7, 255):
            lines = [": ping", "", "event: message", "id: 7", "retry: 50", f"data: {json.dumps(message)}", "", "data: {", "data: }", "", ""]
            add("event_stream", bytes([pieces]) + end.join(lines).encode())
for start in range(8):
    add("channel_accounts", bytes((at * 31 + start * 7) % 256 for at in range(256)))
print(f"{count} seeds in {OUT}")
