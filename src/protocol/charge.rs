//! What a metered request costs once its answer is known (PROTOCOL section 5): never above the ceiling that was offered.
//!
//! The arithmetic is exact, in checked integers of 128 bits, and rounds once: up, to a whole sompi.

use super::{amount::Amount, units::Units};
use http::HeaderName;

/// How a way to pay turns an answer into a charge. The offer's amount is the ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeRule {
    /// The ceiling itself.
    Fixed,
    Metered(Meter),
}

/// A count of units in the answer, times a unit price, rounded up, at least `floor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    pub source: MeterSource,
    pub price: UnitPrice,
    pub floor: Amount,
    pub on_unknown: OnUnknown,
}

/// Where the units are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeterSource {
    /// A response header with one number, see [`Units::parse`].
    Header(HeaderName),
    /// A JSON pointer (RFC 6901) into the response body; of an event stream, into the data of the last event that has a number
    /// there, see [`Units::at`].
    Json(String),
    /// Bytes of the response body as sent.
    Bytes,
}

/// `price` for every `units` units: `"10 sompi"` per 1,000 tokens is `{10, 1000}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitPrice {
    pub price: Amount,
    /// Never zero.
    pub units: u64,
}

/// What an answer without a readable meter costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// The ceiling.
    Ceiling,
    /// The floor.
    Floor,
    /// Nothing, and the answer is withheld (502); of a stream that is under way, the floor.
    Refuse,
}

impl UnitPrice {
    /// What so many units cost, exactly, rounded up to a whole sompi. `None` above every amount there can be.
    pub fn cost(self, units: Units) -> Option<Amount> {
        let per = u128::from(self.units);
        if per == 0 {
            return None;
        }
        let product = u128::from(units.digits).checked_mul(u128::from(self.price.sompi()))?;
        let scale = 10_u128.checked_pow(units.exponent.unsigned_abs());
        let sompi = if product == 0 {
            0
        } else if units.exponent < 0 {
            // A divisor beyond 128 bits is more than the product: the quotient is above 0 and below 1.
            scale.and_then(|scale| per.checked_mul(scale)).map_or(1, |per| product.div_ceil(per))
        } else {
            // A product beyond 128 bits is beyond every amount, divided by 64 bits as it may be.
            product.checked_mul(scale?)?.div_ceil(per)
        };
        Amount::from_sompi(u64::try_from(sompi).ok()?).ok()
    }
}

impl Meter {
    /// The charge for so many units: their cost, at least the floor, at most the ceiling.
    pub fn charge(&self, units: Units, ceiling: Amount) -> Amount {
        self.price.cost(units).map_or(ceiling, |cost| cost.max(self.floor).min(ceiling))
    }

    /// A floor above the ceiling is the ceiling.
    pub fn floor(&self, ceiling: Amount) -> Amount {
        self.floor.min(ceiling)
    }

    /// The charge when the units cannot be read; `None` to refuse.
    pub fn unknown(&self, ceiling: Amount) -> Option<Amount> {
        match self.on_unknown {
            OnUnknown::Ceiling => Some(ceiling),
            OnUnknown::Floor => Some(self.floor(ceiling)),
            OnUnknown::Refuse => None,
        }
    }
}

impl std::fmt::Display for ChargeRule {
    /// As `explain` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Metered(meter) = self else { return f.write_str("fixed") };
        write!(f, "{} for every {} of ", meter.price.price.to_kas(), meter.price.units)?;
        match &meter.source {
            MeterSource::Header(name) => write!(f, "header {name}"),
            MeterSource::Json(pointer) => write!(f, "json {pointer}"),
            MeterSource::Bytes => f.write_str("response bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amount::MAX_SOMPI;
    use proptest::prelude::*;

    fn sompi(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    fn per(price: u64, units: u64) -> UnitPrice {
        UnitPrice { price: sompi(price), units }
    }

    #[test]
    fn a_cost_is_exact_and_rounded_up_once() {
        let most = "18446744073709551615";
        for (price, units, count, expect) in [
            (10, 1_000, "0", Some(0)),
            (10, 1_000, "1", Some(1)),
            (10, 1_000, "100", Some(1)),
            (10, 1_000, "101", Some(2)),
            (10, 1_000, "1000", Some(10)),
            (10, 1_000, "1001", Some(11)),
            (10, 1_000, "1e3", Some(10)),
            (10, 1_000, "1000.0", Some(10)),
            (10, 1_000, "1000.0000000000001", Some(11)),
            (10, 1, "12.5", Some(125)),
            (10, 1, "0.1", Some(1)),
            (10, 1, "0.3", Some(3)),
            (3, 7, "7", Some(3)),
            (3, 7, "7e-1", Some(1)),
            (0, 1, most, Some(0)),
            (1, 1, "1e-30", Some(1)),
            (MAX_SOMPI, 1, "1e-2147483647", Some(1)),
            (MAX_SOMPI, u64::MAX, "1e-18", Some(1)),
            (MAX_SOMPI, 1, "1", Some(MAX_SOMPI)),
            (MAX_SOMPI, 1, "1.0000000000000000001", None),
            (MAX_SOMPI, u64::MAX, most, Some(MAX_SOMPI)),
            (MAX_SOMPI, u64::MAX - 1, most, None),
            (1, 1, "2900000000000000000", Some(MAX_SOMPI)),
            (1, 1, "2900000000000000001", None),
            (1, u64::MAX, "1e19", Some(1)),
            (1, u64::MAX, "1e20", Some(6)),
            (1, u64::MAX, "1e39", None),
            (1, 1, most, None),
            (MAX_SOMPI, 1, most, None),
            (1, 1, "1e2147483647", None),
            (0, 1, "1e2147483647", Some(0)),
        ] {
            let got = per(price, units).cost(Units::parse(count).unwrap());
            assert_eq!(got.map(Amount::sompi), expect, "{count} at {price} sompi per {units}");
        }
        assert_eq!(per(1, 0).cost(5.into()), None, "a price that divides by nothing is no price");
    }

    #[test]
    fn a_charge_lies_between_floor_and_ceiling() {
        for (floor, ceiling, count, expect) in [
            (0, 1_000, "0", 0),
            (0, 1_000, "25", 50),
            (60, 1_000, "25", 60),
            (60, 1_000, "30", 60),
            (60, 1_000, "31", 62),
            (0, 1_000, "500", 1_000),
            (0, 1_000, "500.1", 1_000),
            (0, 1_000, "1e40", 1_000),
            (5_000, 1_000, "25", 1_000),
            (5_000, 1_000, "0", 1_000),
            (0, 0, "25", 0),
        ] {
            let meter = |on_unknown| Meter { source: MeterSource::Bytes, price: per(2, 1), floor: sompi(floor), on_unknown };
            let got = meter(OnUnknown::Refuse).charge(Units::parse(count).unwrap(), sompi(ceiling));
            assert_eq!(got, sompi(expect), "{count} units from {floor} to {ceiling}");
            for (on_unknown, expect) in
                [(OnUnknown::Ceiling, Some(ceiling)), (OnUnknown::Floor, Some(floor.min(ceiling))), (OnUnknown::Refuse, None)]
            {
                assert_eq!(meter(on_unknown).unknown(sompi(ceiling)), expect.map(sompi), "{on_unknown:?} from {floor} to {ceiling}");
            }
        }
    }

    proptest! {
        /// The smallest amount whose worth in units covers the count, found without dividing.
        #[test]
        fn a_cost_covers_its_units_and_no_sompi_less_would(whole in any::<u32>(), fraction in 0_u32..1_000_000, price in 1_u32.., units in 1_u32..) {
            let count = Units::parse(&format!("{whole}.{fraction:06}")).unwrap();
            let cost = u128::from(per(price.into(), units.into()).cost(count).unwrap().sompi());
            let owed = (u128::from(whole) * 1_000_000 + u128::from(fraction)) * u128::from(price);
            let worth = u128::from(units) * 1_000_000;
            prop_assert!(cost * worth >= owed);
            prop_assert!(owed == 0 || (cost - 1) * worth < owed);
        }

        #[test]
        fn no_charge_leaves_its_bounds(text in "[0-9]{1,9}(\\.[0-9]{1,9})?(e-?[0-9]{1,3})?", price in 0..=MAX_SOMPI, units in 1_u64.., floor in 0..=MAX_SOMPI, ceiling in 0..=MAX_SOMPI) {
            let meter = Meter { source: MeterSource::Bytes, price: per(price, units), floor: sompi(floor), on_unknown: OnUnknown::Refuse };
            if let Some(count) = Units::parse(&text) {
                let charge = meter.charge(count, sompi(ceiling));
                prop_assert!(charge.sompi() <= ceiling && charge.sompi() >= floor.min(ceiling));
            }
        }
    }
}
