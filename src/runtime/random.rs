//! Randomness: the only file of the gateway that draws it. Everybody else is given it.

use rand::RngCore;

/// 128 random bits.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // ChaCha12 per thread, seeded and again and again reseeded by the system: no system call per request.
    rand::thread_rng().fill_bytes(&mut bytes);
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
