//! A body that arrives in pieces.

use bytes::{Bytes, BytesMut};

/// Most bodies arrive in one piece, which is kept without a copy.
#[derive(Default)]
pub struct Pieces {
    first: Bytes,
    rest: BytesMut,
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = piece;
            return;
        }
        self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        self.rest.extend_from_slice(&piece);
    }

    /// All of them as one.
    pub fn whole(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_in_their_order() {
        for pieces in [&[][..], &[""], &["a"], &["", "a"], &["a", ""], &["a", "b"], &["", "ab", "", "c", "d"]] {
            let mut body = Pieces::default();
            pieces.iter().for_each(|piece| body.push(Bytes::from_static(piece.as_bytes())));
            assert_eq!(body.len(), pieces.concat().len());
            assert_eq!(body.whole(), pieces.concat());
        }
        let one = Bytes::from_static(b"one");
        let mut body = Pieces::default();
        body.push(one.clone());
        assert_eq!(body.whole().as_ptr(), one.as_ptr(), "without a copy");
    }
}
