//! Tools that are sold, in front of an MCP server that knows nothing of it: through the real proxy, with the real node.

mod support;

#[path = "mcp/abuse.rs"]
mod abuse;
#[path = "mcp/buying.rs"]
mod buying;
#[path = "mcp/channels.rs"]
mod channels;
#[path = "mcp/client.rs"]
mod client;
#[path = "mcp/crashes.rs"]
mod crashes;
#[path = "mcp/doors.rs"]
mod doors;
#[path = "mcp/exact.rs"]
mod exact;
#[path = "mcp/limits.rs"]
mod limits;
#[path = "mcp/server.rs"]
mod server;
#[path = "mcp/sessions.rs"]
mod sessions;
