//! Use cases against the model store and the simulated chain.
