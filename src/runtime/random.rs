//! The only file that draws randomness for the gateway.

use rand::{RngCore, rngs::OsRng};

/// 16 bytes of the operating system's randomness.
pub fn bytes16() -> [u8; 16] {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    bytes
}
