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
for start in range(8):
    add("channel_accounts", bytes((at * 31 + start * 7) % 256 for at in range(256)))
print(f"{count} seeds in {OUT}")
