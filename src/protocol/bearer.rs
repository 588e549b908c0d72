//! Bearer tokens: the operator's on the admin listener, tenants' on the facilitator's.
//!
//! Promises: a token is never kept or shown, and comparing takes the same time whatever is presented. Never draws one.
//! Called by `admin`, `config` and `gateway`.

use hmac::{Hmac, Mac};
use http::{HeaderMap, header::AUTHORIZATION};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Shortest token, bytes: 128 bits of hex.
const SHORTEST: usize = 32;

/// A configured token. Only a digest is kept, so that comparing takes the same time whatever is
/// presented, of whatever length.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// HMAC over a fixed text, keyed by the token.
    digest: [u8; 32],
}

/// The token cannot protect anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is shorter than {SHORTEST} bytes")]
    Short,
    #[error("the token has characters outside printable ASCII")]
    Characters,
}

impl Token {
    pub fn new(secret: Zeroizing<Vec<u8>>) -> Result<Self, TokenError> {
        if secret.len() < SHORTEST {
            return Err(TokenError::Short);
        }
        // Anything else could not be sent in a header.
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Characters);
        }
        Ok(Self { digest: keyed(&secret).finalize().into_bytes().into() })
    }

    /// Whether `presented` is the token, in constant time.
    pub fn is(&self, presented: &[u8]) -> bool {
        keyed(presented).verify_slice(&self.digest).is_ok()
    }
}

/// The token of the one `Authorization: Bearer` header; two such headers are none.
pub fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(b"kas402 bearer token");
    mac
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::new(Zeroizing::new(SECRET.to_vec())).unwrap();
        assert!(token.is(SECRET));
        for other in
            [&b""[..], b"0123456789abcdef0123456789abcdeF", b"0123456789abcdef0123456789abcde", b"0123456789abcdef0123456789abcdef0"]
        {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_token_that_protects_nothing_or_fits_no_header_is_refused() {
        for (secret, error) in [
            (&b""[..], TokenError::Short),
            (b"0123456789abcdef0123456789abcde", TokenError::Short),
            (b"0123456789abcdef 0123456789abcdef", TokenError::Characters),
            (b"0123456789abcdef0123456789abcdef\n", TokenError::Characters),
        ] {
            assert_eq!(Token::new(Zeroizing::new(secret.to_vec())).unwrap_err(), error);
        }
    }
}
