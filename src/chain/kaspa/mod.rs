//! The real network over wRPC.
