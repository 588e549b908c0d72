//! The devnet against itself: real nodes, real blocks, no fixed ports, no sleeps.

mod binary;
mod funding;
mod lifecycle;
mod refusals;
mod reorg;
mod support;
