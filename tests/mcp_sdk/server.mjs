// A server of the official MCP SDK for TypeScript, as its users write one: sessions, resumable streams, nothing about money.
// Prints its address.
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';

// Keeps every event, for streams that are resumed.
class Events {
    events = [];
    async storeEvent(streamId, message) {
        this.events.push({ streamId, message });
        return String(this.events.length - 1);
    }
    async replayEventsAfter(last, { send }) {
        const { streamId } = this.events[Number(last)];
        for (let i = Number(last) + 1; i < this.events.length; i++) {
            if (this.events[i].streamId === streamId) await send(String(i), this.events[i].message);
        }
        return streamId;
    }
}

let runs = 0;

function mcp() {
    const server = new McpServer({ name: 'sdk-server', version: '1.0.0' });
    server.registerTool('echo', { description: 'Says it again.', inputSchema: { text: z.string() } }, async ({ text }) => ({
        content: [{ type: 'text', text: `echo: ${text}` }],
    }));
    server.registerTool('search', { description: 'Searches.', inputSchema: { q: z.string() } }, async ({ q }, extra) => {
        runs += 1;
        const progressToken = extra._meta?.progressToken;
        if (progressToken !== undefined) {
            await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress: 1, total: 2 } });
        }
        return { content: [{ type: 'text', text: `found ${q}, run ${runs}` }] };
    });
    server.registerResource('note', 'note://1', {}, async uri => ({ contents: [{ uri: uri.href, text: 'a note' }] }));
    return server;
}

const sessions = new Map();

const http = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
    let transport = sessions.get(request.headers['mcp-session-id']);
    if (transport === undefined && isInitializeRequest(body)) {
        transport = new StreamableHTTPServerTransport({
            sessionIdGenerator: () => randomUUID(),
            eventStore: new Events(),
            onsessioninitialized: id => sessions.set(id, transport),
        });
        await mcp().connect(transport);
    }
    if (transport === undefined) {
        response.writeHead(404, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Session not found' } }));
        return;
    }
    await transport.handleRequest(request, response, body);
});
http.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${http.address().port}`));
