//! The escrow binding against vectors, against the node's own script engine, and against its own accounting.

mod vectors;
