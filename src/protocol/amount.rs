//! Money: a closed newtype over whole sompi (PROTOCOL section 1).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// 1 KAS in sompi.
pub const SOMPI_PER_KAS: u64 = 100_000_000;
/// The largest amount the network can ever hold (29 billion KAS), in sompi.
pub const MAX_SOMPI: u64 = 29_000_000_000 * SOMPI_PER_KAS;

/// An amount of native KAS in sompi, at most [`MAX_SOMPI`]. There is no float anywhere near it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("not a canonical decimal: digits only, no sign, no leading zero")]
    NotCanonical,
    #[error("more than the network's maximum of 29,000,000,000 KAS")]
    TooLarge,
    #[error("a price needs its unit, for example \"0.25 KAS\" or \"25000000 sompi\"")]
    NoUnit,
    #[error("KAS has 8 decimal places")]
    TooPrecise,
}

impl Amount {
    pub const ZERO: Amount = Amount(0);
    /// All that the network can ever hold.
    pub const MAX: Amount = Amount(MAX_SOMPI);

    /// `sompi` as an amount; refuses more than [`MAX_SOMPI`].
    pub const fn from_sompi(sompi: u64) -> Result<Self, AmountError> {
        if sompi > MAX_SOMPI { Err(AmountError::TooLarge) } else { Ok(Self(sompi)) }
    }

    pub const fn sompi(self) -> u64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `None` above [`MAX_SOMPI`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|sum| Self::from_sompi(sum).ok())
    }

    /// `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The wire form: a canonical unsigned decimal string of sompi.
    pub fn parse_wire(text: &str) -> Result<Self, AmountError> {
        Self::from_sompi(parse_canonical_u64(text).ok_or(AmountError::NotCanonical)?)
    }

    /// The form of the YAML: `"0.25 KAS"` or `"25000000 sompi"`; exact, never through a float.
    pub fn parse_price(text: &str) -> Result<Self, AmountError> {
        let (number, unit) = text.trim().split_once(char::is_whitespace).ok_or(AmountError::NoUnit)?;
        match unit.trim_start() {
            "sompi" => Self::parse_wire(number),
            "KAS" => Self::parse_kas(number),
            _ => Err(AmountError::NoUnit),
        }
    }

    fn parse_kas(number: &str) -> Result<Self, AmountError> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::NotCanonical);
        }
        if fraction.len() > 8 {
            return Err(AmountError::TooPrecise);
        }
        let whole = parse_canonical_u64(whole).ok_or(AmountError::NotCanonical)?;
        let fraction: u64 = format!("{fraction:0<8}").parse().map_err(|_| AmountError::NotCanonical)?;
        let sompi = whole.checked_mul(SOMPI_PER_KAS).and_then(|w| w.checked_add(fraction)).ok_or(AmountError::TooLarge)?;
        Self::from_sompi(sompi)
    }

    /// For people: `0.25 KAS`, without trailing zeros.
    pub fn to_kas(self) -> String {
        let (whole, fraction) = (self.0 / SOMPI_PER_KAS, self.0 % SOMPI_PER_KAS);
        if fraction == 0 {
            return format!("{whole} KAS");
        }
        format!("{whole}.{} KAS", format!("{fraction:08}").trim_end_matches('0'))
    }
}

/// A canonical unsigned 64-bit decimal: `"0"`, or a non-zero digit and digits.
pub fn parse_canonical_u64(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_wire(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_amounts_are_canonical_decimals() {
        for (text, expect) in [
            ("0", Ok(0)),
            ("1", Ok(1)),
            ("25000000", Ok(25_000_000)),
            ("2900000000000000000", Ok(MAX_SOMPI)),
            ("2900000000000000001", Err(AmountError::TooLarge)),
            ("18446744073709551616", Err(AmountError::NotCanonical)),
            ("", Err(AmountError::NotCanonical)),
            ("00", Err(AmountError::NotCanonical)),
            ("01", Err(AmountError::NotCanonical)),
            ("+1", Err(AmountError::NotCanonical)),
            ("-1", Err(AmountError::NotCanonical)),
            ("1.0", Err(AmountError::NotCanonical)),
            ("1e3", Err(AmountError::NotCanonical)),
            (" 1", Err(AmountError::NotCanonical)),
            ("٣", Err(AmountError::NotCanonical)),
        ] {
            assert_eq!(Amount::parse_wire(text).map(Amount::sompi), expect, "{text:?}");
        }
    }

    #[test]
    fn prices_are_exact_and_carry_their_unit() {
        for (text, expect) in [
            ("0.25 KAS", Ok(25_000_000)),
            ("1 KAS", Ok(100_000_000)),
            ("0.00000001 KAS", Ok(1)),
            ("25000000 sompi", Ok(25_000_000)),
            ("0.000000001 KAS", Err(AmountError::TooPrecise)),
            ("0.25", Err(AmountError::NoUnit)),
            ("0.25 BTC", Err(AmountError::NoUnit)),
            ("0.5 sompi", Err(AmountError::NotCanonical)),
            (".5 KAS", Err(AmountError::NotCanonical)),
            ("1. KAS", Err(AmountError::NotCanonical)),
            ("1e2 KAS", Err(AmountError::NotCanonical)),
            ("-1 KAS", Err(AmountError::NotCanonical)),
            ("29000000001 KAS", Err(AmountError::TooLarge)),
        ] {
            assert_eq!(Amount::parse_price(text).map(Amount::sompi), expect, "{text:?}");
        }
    }

    #[test]
    fn amounts_print_for_people_and_for_the_wire() {
        let quarter = Amount::from_sompi(25_000_000).unwrap();
        assert_eq!(quarter.to_kas(), "0.25 KAS");
        assert_eq!(quarter.to_string(), "25000000");
        assert_eq!(serde_json::to_string(&quarter).unwrap(), "\"25000000\"");
        assert!(serde_json::from_str::<Amount>("25000000").is_err(), "a JSON number is not an amount");
    }

    #[test]
    fn arithmetic_never_wraps() {
        let max = Amount::from_sompi(MAX_SOMPI).unwrap();
        let one = Amount::from_sompi(1).unwrap();
        assert_eq!(max.checked_add(one), None);
        assert_eq!(Amount::ZERO.checked_sub(one), None);
    }
}
