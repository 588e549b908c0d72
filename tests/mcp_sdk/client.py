"""A client of the official MCP SDK for Python. Prints a line of JSON for each thing it did. With a second argument it also calls the tool
that is sold: unpaid, then with the payment that it reads from standard input, twice."""

import asyncio
import json
import sys

from mcp import Client


def tell(name, value) -> None:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps({name: value}), flush=True)


async def main(url: str, paid: bool) -> None:
    async with Client(url) as client:
        tell("revision", client.protocol_version)
        listed = await client.list_tools()
        tell("tools", [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools])
        tell("free", await client.call_tool("echo", {"text": "h\u00e9"}))
        tell("resource", await client.read_resource("note://1"))
        if not paid:
            return
        call = ("search", {"q": "kaspa"})
        tell("unpaid", await client.call_tool(*call))
        payment = json.loads(await asyncio.to_thread(sys.stdin.readline))
        for name in ("paid", "again"):
            seen = 0

            async def progress(*_) -> None:
                nonlocal seen
                seen += 1

            tell(name, await client.call_tool(*call, meta={"x402/payment": payment}, progress_callback=progress))
            tell("progress", seen)


asyncio.run(main(sys.argv[1], len(sys.argv) > 2))
