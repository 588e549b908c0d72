//! The operating system's randomness: the only file of the gateway that draws it. Everybody else is
//! given it.

use rand::{RngCore, rngs::OsRng};

/// 128 random bits.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).expect("without the system's randomness no offer may be made");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes(), bytes());
    }
}
