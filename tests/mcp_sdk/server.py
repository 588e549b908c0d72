"""A server of the official MCP SDK for Python, as its users write one: nothing about money. Prints its address."""

import asyncio
import socket

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("sdk-server", version="1.0.0")
runs = 0


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Says it again."""
    return f"echo: {text}"


@server.tool(structured_output=False)
async def search(q: str, ctx: Context) -> str:
    """Searches."""
    global runs
    runs += 1
    await ctx.report_progress(1, 2)
    return f"found {q}, run {runs}"


@server.resource("note://1")
def note() -> str:
    return "a note"


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


main()
