//! Everything random of one run, from its seed.

use std::sync::Mutex;

/// splitmix64: as good as needed here, and the same everywhere.
pub struct Dice(Mutex<u64>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6b61_7334_3032))
    }

    pub fn draw(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = *state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// 0 to `sides - 1`.
    pub fn roll(&self, sides: u64) -> u64 {
        self.draw() % sides.max(1)
    }

    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.roll(u64::try_from(len).unwrap())).unwrap()
    }

    /// `from` to `to`, both included.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.roll(to - from + 1)
    }

    /// Happens `n` times of a thousand.
    pub fn permille(&self, n: u64) -> bool {
        n > 0 && self.roll(1_000) < n
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.roll(n) == 0
    }

    pub fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.draw().to_be_bytes());
        bytes[8..].copy_from_slice(&self.draw().to_be_bytes());
        bytes
    }
}
