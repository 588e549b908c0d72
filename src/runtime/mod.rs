<<<<<<< HEAD
//! Wiring: from a compiled configuration to a running gateway. No rule lives here.
=======
//! Wiring: builds the parts and connects them. No rules of its own.
>>>>>>> main

pub mod clock;
pub mod random;
