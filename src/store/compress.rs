//! Stored bodies in fewer bytes, where that helps.
//!
//! A body is compressed when it is worth the time: from [`WORTH`] bytes on, not when the upstream compressed it already, and
//! kept compressed only when that saves an eighth. Pure but for a working memory of each thread. For every store's codec.

use super::StoredResponse;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

/// Smaller bodies are stored as they are: a charge waits for this.
pub(in crate::store) const WORTH: usize = 1_024;
/// The fastest one of those that are not tuned for speed alone.
const LEVEL: i32 = 1;

thread_local! {
    // Making one costs more than compressing an ordinary answer.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// The body in fewer bytes; `None` when it stays as it is.
pub(in crate::store) fn packed(response: &StoredResponse) -> Option<Vec<u8>> {
    let body = &response.body[..];
    let encoded = response.headers.iter().any(|(name, value)| name == "content-encoding" && value.as_slice() != b"identity");
    if body.len() < WORTH || encoded {
        return None;
    }
    let packed = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        slot.as_mut()?.compress(body).ok()
    })?;
    (packed.len() <= body.len() - body.len() / 8).then_some(packed)
}

/// The body that became `packed`, which had this length; `None` when it is not so.
pub(in crate::store) fn unpacked(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let body = Decompressor::new().ok()?.decompress(packed, length).ok()?;
    (body.len() == length).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &str)], body: Vec<u8>) -> StoredResponse {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        StoredResponse { status: 200, headers, body: body.into() }
    }

    /// Bytes that nothing compresses.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn a_body_is_compressed_only_where_that_helps_and_comes_back_whole() {
        let json = |length: usize| br#"{"role":"assistant","content":"word "},"#.iter().copied().cycle().take(length).collect::<Vec<_>>();
        for (what, headers, body, expect) in [
            ("empty", &[][..], vec![], false),
            ("small", &[], json(WORTH - 1), false),
            ("json", &[], json(WORTH), true),
            ("large json", &[], json(1_000_000), true),
            ("noise", &[], noise(100_000), false),
            ("compressed by the upstream", &[("content-encoding", "gzip")], json(10_000), false),
            ("encoded as nothing", &[("content-encoding", "identity")], json(10_000), true),
        ] {
            let answer = answer(headers, body);
            let packed = packed(&answer);
            assert_eq!(packed.is_some(), expect, "{what}");
            if let Some(packed) = packed {
                assert!(packed.len() * 8 <= answer.body.len() * 7, "{what}");
                assert_eq!(unpacked(&packed, answer.body.len()).as_deref(), Some(&answer.body[..]), "{what}");
                for wrong in [answer.body.len() - 1, answer.body.len() + 1, 0] {
                    assert_eq!(unpacked(&packed, wrong), None, "{what} of {wrong} bytes");
                }
                assert_eq!(unpacked(&packed[..packed.len() - 1], answer.body.len()), None, "{what} cut short");
            }
        }
    }
}
