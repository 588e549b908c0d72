//! Places on the virtual chain.

use super::ids::BlockHash;
use serde::{Deserialize, Serialize};

/// Where and when the virtual chain accepted a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    pub block: BlockHash,
    /// Of the accepting block.
    pub blue_score: u64,
    /// Of the accepting block.
    pub daa_score: u64,
}

/// Where catching up with the chain begins after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub block: BlockHash,
    pub blue_score: u64,
}
