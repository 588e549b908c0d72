//! The signed offer token `v1.<kid>.<issued>.<expiry>.<daa>.<nonce>.<mac>` (PROTOCOL section 3).
//!
//! There is no offer store: a quote is its MAC. The MAC covers the canonical terms, where
//! they were offered, and the normalised inputs that set the price, so a cheap quote never
//! buys a dear request and an altered one is nothing.

use super::{
    ids::StoreId,
    limits,
    policy::{PublicOrigin, RouteId},
    price::PriceInputs,
    time::UnixMillis,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// One offer key. The first of [`OfferKeys`] signs; all that have not ended verify.
pub struct OfferKey {
    pub kid: String,
    /// At least 32 bytes.
    pub key: Zeroizing<Vec<u8>>,
    /// After this the key verifies nothing.
    pub not_after: Option<UnixMillis>,
}

/// The offer keys of one store.
pub struct OfferKeys {
    keys: Vec<(String, Option<UnixMillis>, Zeroizing<[u8; 32]>)>,
}

impl OfferKeys {
    /// Derives each key for this store: HKDF-SHA256 with the store id as salt, so that an
    /// offer of another store is void by construction.
    pub fn derive(keys: &[OfferKey], store: StoreId) -> Self {
        let derive = |key: &OfferKey| {
            let mut okm = Zeroizing::new([0; 32]);
            hkdf::Hkdf::<Sha256>::new(Some(&store.0), &key.key)
                .expand(b"kas402/offer/v1", okm.as_mut())
                .expect("32 bytes are within HKDF's output limit");
            (key.kid.clone(), key.not_after, okm)
        };
        Self { keys: keys.iter().map(derive).collect() }
    }

    fn signing(&self) -> Option<(&str, &[u8; 32])> {
        self.keys.first().map(|(kid, _, key)| (kid.as_str(), &**key))
    }

    fn verifying(&self, kid: &str, now: UnixMillis) -> Option<&[u8; 32]> {
        let live = |end: &Option<UnixMillis>| end.is_none_or(|end| now <= end);
        self.keys.iter().find(|(k, end, _)| k == kid && live(end)).map(|(_, _, key)| &**key)
    }
}

/// Where an offer was made and what set its price; recomputed from the request that pays.
#[derive(Clone, Debug)]
pub struct OfferContext<'a> {
    pub origin: &'a PublicOrigin,
    pub route: &'a RouteId,
    pub rule_id: &'a str,
    pub inputs: &'a PriceInputs,
}

/// The token's own fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferToken {
    pub kid: String,
    /// Unix seconds.
    pub issued: u64,
    /// Unix seconds.
    pub expiry: u64,
    /// The node's virtual DAA score when the offer was made.
    pub daa: u64,
    pub nonce: [u8; 16],
    mac: [u8; 32],
}

/// Why a token is not accepted as authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    Malformed,
    KeyUnknown,
    Mac,
}

impl OfferToken {
    /// Signs an offer; `terms` is the canonical JSON of the requirements with an empty `extra.offer`.
    /// `None` when there is no signing key.
    pub fn sign(
        keys: &OfferKeys,
        context: &OfferContext<'_>,
        terms: &[u8],
        issued: UnixMillis,
        lifetime_seconds: u64,
        daa: u64,
        nonce: [u8; 16],
    ) -> Option<Self> {
        let (kid, key) = keys.signing()?;
        let issued = issued.seconds();
        let mut token = Self { kid: kid.to_owned(), issued, expiry: issued.checked_add(lifetime_seconds)?, daa, nonce, mac: [0; 32] };
        token.mac = token.hmac(key, context, terms).finalize().into_bytes().into();
        Some(token)
    }

    /// Checks authenticity only, in constant time; age is judged by the store at the moment of the claim.
    pub fn authenticate(&self, keys: &OfferKeys, context: &OfferContext<'_>, terms: &[u8], now: UnixMillis) -> Result<(), OfferError> {
        let key = keys.verifying(&self.kid, now).ok_or(OfferError::KeyUnknown)?;
        self.hmac(key, context, terms).verify_slice(&self.mac).map_err(|_| OfferError::Mac)
    }

    /// The last moment at which a fresh payment under this offer is accepted.
    pub fn accepted_until(&self) -> UnixMillis {
        UnixMillis::from_seconds(self.expiry.saturating_add(limits::OFFER_CLOCK_GRACE_SECONDS))
    }

    fn hmac(&self, key: &[u8; 32], context: &OfferContext<'_>, terms: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        let mut field = |bytes: &[u8]| {
            // Length-prefixed, so that no two different field lists are the same bytes.
            mac.update(&(bytes.len() as u64).to_le_bytes());
            mac.update(bytes);
        };
        field(b"kas402/offer/v1");
        field(terms);
        field(context.origin.0.as_bytes());
        field(context.route.0.as_bytes());
        field(context.rule_id.as_bytes());
        for (name, value) in context.inputs.iter() {
            field(name.as_bytes());
            field(value.as_bytes());
        }
        field(self.kid.as_bytes());
        for number in [self.issued, self.expiry, self.daa] {
            field(&number.to_le_bytes());
        }
        field(&self.nonce);
        mac
    }

    pub fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > limits::OFFER_TOKEN_CHARS {
            return Err(OfferError::Malformed);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let &[version, kid, issued, expiry, daa, nonce, mac] = parts.as_slice() else {
            return Err(OfferError::Malformed);
        };
        if version != "v1" {
            return Err(OfferError::Malformed);
        }
        let decode = |part: &str| B64.decode(part).map_err(|_| OfferError::Malformed);
        let fixed = |part: &str| -> Result<u64, OfferError> {
            let bytes: [u8; 8] = decode(part)?.try_into().map_err(|_| OfferError::Malformed)?;
            Ok(u64::from_be_bytes(bytes))
        };
        Ok(Self {
            kid: String::from_utf8(decode(kid)?).map_err(|_| OfferError::Malformed)?,
            issued: fixed(issued)?,
            expiry: fixed(expiry)?,
            daa: fixed(daa)?,
            nonce: decode(nonce)?.try_into().map_err(|_| OfferError::Malformed)?,
            mac: decode(mac)?.try_into().map_err(|_| OfferError::Malformed)?,
        })
    }
}

impl std::fmt::Display for OfferToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v1.{}", B64.encode(&self.kid))?;
        for number in [self.issued, self.expiry, self.daa] {
            write!(f, ".{}", B64.encode(number.to_be_bytes()))?;
        }
        write!(f, ".{}.{}", B64.encode(self.nonce), B64.encode(self.mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(store: u8, kids: &[(&str, u8, Option<u64>)]) -> OfferKeys {
        let keys: Vec<_> = kids
            .iter()
            .map(|&(kid, byte, end)| OfferKey { kid: kid.into(), key: Zeroizing::new(vec![byte; 32]), not_after: end.map(UnixMillis) })
            .collect();
        OfferKeys::derive(&keys, StoreId([store; 16]))
    }

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    /// Everything a MAC covers, to be changed one at a time.
    struct Quote {
        token: OfferToken,
        terms: Vec<u8>,
        origin: PublicOrigin,
        route: RouteId,
        rule: String,
        inputs: PriceInputs,
    }

    fn check(change: impl Fn(&mut Quote)) -> Result<(), OfferError> {
        let ring = keys(1, &[("a", 7, None)]);
        let (terms, origin, route) = (b"{}".to_vec(), PublicOrigin("https://x".into()), RouteId("r".into()));
        let (rule, mut inputs) = ("p".to_owned(), PriceInputs::default());
        inputs.push("json:/model".into(), "small".into());
        let context = OfferContext { origin: &origin, route: &route, rule_id: &rule, inputs: &inputs };
        let signed = OfferToken::sign(&ring, &context, &terms, NOW, 60, 5, [9; 16]).unwrap();
        let token = OfferToken::parse(&signed.to_string()).unwrap();
        assert_eq!(token, signed);
        let mut quote = Quote { token, terms, origin, route, rule, inputs };
        change(&mut quote);
        let context = OfferContext { origin: &quote.origin, route: &quote.route, rule_id: &quote.rule, inputs: &quote.inputs };
        quote.token.authenticate(&ring, &context, &quote.terms, NOW)
    }

    #[test]
    fn an_offer_is_authentic_only_where_and_for_what_it_was_made() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|q| q.terms.push(b' ')), Err(OfferError::Mac));
        assert_eq!(check(|q| q.origin.0.push('y')), Err(OfferError::Mac));
        assert_eq!(check(|q| q.route.0.push('y')), Err(OfferError::Mac));
        assert_eq!(check(|q| q.rule.push('y')), Err(OfferError::Mac));
        assert_eq!(check(|q| q.inputs = PriceInputs::default()), Err(OfferError::Mac));
        assert_eq!(check(|q| q.token.expiry += 1), Err(OfferError::Mac));
        assert_eq!(check(|q| q.token.issued += 1), Err(OfferError::Mac));
        assert_eq!(check(|q| q.token.daa += 1), Err(OfferError::Mac));
        assert_eq!(check(|q| q.token.nonce[0] ^= 1), Err(OfferError::Mac));
        assert_eq!(check(|q| q.token.kid = "b".into()), Err(OfferError::KeyUnknown));
    }

    #[test]
    fn an_offer_of_another_store_or_an_ended_key_is_void() {
        let inputs = PriceInputs::default();
        let (origin, route) = (PublicOrigin("https://x".into()), RouteId("r".into()));
        let context = OfferContext { origin: &origin, route: &route, rule_id: "p", inputs: &inputs };
        let old = keys(1, &[("old", 7, None)]);
        let token = OfferToken::sign(&old, &context, b"{}", NOW, 60, 5, [9; 16]).unwrap();
        for (ring, expect) in [
            (keys(2, &[("old", 7, None)]), Err(OfferError::Mac)),
            (keys(1, &[("new", 8, None), ("old", 7, None)]), Ok(())),
            (keys(1, &[("new", 8, None), ("old", 7, Some(NOW.0))]), Ok(())),
            (keys(1, &[("new", 8, None), ("old", 7, Some(NOW.0 - 1))]), Err(OfferError::KeyUnknown)),
            (keys(1, &[("new", 8, None)]), Err(OfferError::KeyUnknown)),
        ] {
            assert_eq!(token.authenticate(&ring, &context, b"{}", NOW), expect);
        }
    }

    #[test]
    fn garbage_is_not_a_token() {
        for text in ["", "v1", "v2.YQ.AAAAAAAAAAA.AAAAAAAAAAA.AAAAAAAAAAA.AA.AA", "v1.a.b.c.d.e.f", &"v1.".repeat(400)] {
            assert_eq!(OfferToken::parse(text), Err(OfferError::Malformed), "{text}");
        }
    }
}
