// A client of the official MCP SDK for TypeScript. Prints a line of JSON for each thing it did. With a second argument it also calls the tool
// that is sold: unpaid, then with the payment that it reads from standard input, twice.
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, paid] = process.argv.slice(2);
const tell = (name, value) => console.log(JSON.stringify({ [name]: value }));
const client = new Client({ name: 'sdk-client', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
tell('server', client.getServerVersion());
tell('tools', (await client.listTools()).tools);
tell('free', await client.callTool({ name: 'echo', arguments: { text: 'h\u00e9' } }));
tell('resource', await client.readResource({ uri: 'note://1' }));
tell('ping', await client.ping());
if (paid) {
    const call = { name: 'search', arguments: { q: 'kaspa' } };
    tell('unpaid', await client.callTool(call));
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const payment = JSON.parse((await lines.next()).value);
    for (const name of ['paid', 'again']) {
        let progress = 0;
        const options = { onprogress: () => (progress += 1) };
        tell(name, await client.callTool({ ...call, _meta: { 'x402/payment': payment } }, undefined, options));
        tell('progress', progress);
    }
}
await client.close();
process.exit(0);
