//! What the buyer is willing to pay, decided before anything is built.

use super::challenge::Offer;
use crate::protocol::{amount::Amount, network::Network, time::UnixMillis};
use kaspa_addresses::Address;
use std::time::Duration;

/// What the network fee may be where nothing else is said: 0.05 KAS, far above an ordinary one.
const MAX_FEE: Amount = match Amount::from_sompi(5_000_000) {
    Ok(fee) => fee,
    Err(_) => Amount::ZERO,
};

/// Bounds of one request. There is no default for the amount: who sets none pays nothing.
#[derive(Clone, Debug)]
pub struct SpendingPolicy {
    /// The most one request may cost, without the network fee. `None` pays nothing.
    pub max_amount: Option<Amount>,
    /// The most the network fee of one transaction may be.
    pub max_fee: Amount,
    /// The wallet's network.
    pub network: Network,
    /// Addresses that may be paid; `None` allows any.
    pub recipients: Option<Vec<String>>,
    /// Accept that the server names the resource by another origin than the one that was asked
    /// (a gateway reached by an internal name). Path and query must always agree.
    pub other_origin: bool,
    /// Bounds of all requests together.
    pub budget: Budget,
}

/// Bounds of all requests together, by the [journal](super::journal): they hold over restarts and between processes.
///
/// What counts is the price of a payment and the charge to a channel, or what may still be charged; not network fees, not deposits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The most that all requests to one origin (scheme, host and port) may cost; `None`: no bound.
    pub per_origin: Option<Amount>,
    /// The most that all requests may cost; `None`: no bound.
    pub total: Option<Amount>,
    /// What was begun before this moment does not count. Zero: everything counts, for ever.
    pub since: UnixMillis,
}

/// A budget that one more purchase would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} were spent {} already, and {} more would exceed the budget of {}", .spent.to_kas(), .limit.words(), .more.to_kas(), .max.to_kas())]
pub struct Over {
    pub limit: Limit,
    pub spent: Amount,
    pub more: Amount,
    pub max: Amount,
}

/// Which part of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Origin,
    Total,
}

impl Limit {
    const fn words(self) -> &'static str {
        match self {
            Self::Origin => "at this server",
            Self::Total => "in all",
        }
    }
}

/// How long the buyer waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the recorded payment to the resource, all repetitions together; also for the node to become ready.
    pub total: Duration,
    /// One HTTP exchange. A server holds a paid request until its finality is reached.
    pub attempt: Duration,
    /// The longest response body that is kept, bytes.
    pub body_bytes: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { total: Duration::from_secs(60), attempt: Duration::from_secs(30), body_bytes: 64 * 1024 * 1024 }
    }
}

/// Why an offer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwilling {
    #[error("the price is {}, and no maximum was set", .0.to_kas())]
    NoMaximum(Amount),
    #[error("the price is {}, above the maximum of {}", .price.to_kas(), .max.to_kas())]
    AboveMaximum { price: Amount, max: Amount },
    #[error("the offer is on {offered}, the wallet on {wallet}")]
    Network { offered: Network, wallet: Network },
    #[error("{0} is not among the allowed recipients")]
    Recipient(String),
    #[error(transparent)]
    Budget(#[from] Over),
}

impl SpendingPolicy {
    /// Pays any recipient on this network up to `max_amount` for one request, and network fees up to 0.05 KAS.
    pub fn up_to(max_amount: Amount, network: Network) -> Self {
        Self { max_amount: Some(max_amount), max_fee: MAX_FEE, network, recipients: None, other_origin: false, budget: Budget::default() }
    }

    /// The same within these bounds of all requests together.
    pub fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Whether this offer may be paid.
    pub fn judge(&self, offer: &Offer) -> Result<(), Unwilling> {
        self.judge_terms(offer.network, &offer.pay_to, offer.amount)
    }

    /// Whether so much may be paid to this recipient for one request.
    pub fn judge_terms(&self, network: Network, pay_to: &Address, amount: Amount) -> Result<(), Unwilling> {
        if network != self.network {
            return Err(Unwilling::Network { offered: network, wallet: self.network });
        }
        let pay_to = pay_to.to_string();
        if self.recipients.as_ref().is_some_and(|allowed| !allowed.contains(&pay_to)) {
            return Err(Unwilling::Recipient(pay_to));
        }
        match self.max_amount {
            None => Err(Unwilling::NoMaximum(amount)),
            Some(max) if amount > max => Err(Unwilling::AboveMaximum { price: amount, max }),
            Some(_) => Ok(()),
        }
    }

    /// The cheapest offer that may be paid, the server's order deciding among equals; else why none.
    pub fn choose<'a>(&self, offers: &'a [Offer]) -> Result<&'a Offer, Vec<Unwilling>> {
        let mut reasons = Vec::new();
        let willing = offers.iter().filter(|offer| self.judge(offer).map_err(|reason| reasons.push(reason)).is_ok());
        willing.min_by_key(|offer| offer.amount).ok_or(reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::challenge::{Challenge, tests::entry};
    use serde_json::json;

    fn offers(amounts: &[&str]) -> Vec<Offer> {
        let entries: Vec<_> = amounts
            .iter()
            .map(|amount| {
                let mut entry = entry();
                entry["amount"] = json!(amount);
                entry
            })
            .collect();
        Challenge::read(crate::wire::header::encode(&json!({"x402Version": 2, "accepts": entries})).as_bytes()).unwrap().offers
    }

    #[test]
    fn only_what_the_policy_allows_is_paid() {
        let base = SpendingPolicy::up_to(Amount::from_sompi(100).unwrap(), Network::Simnet);
        let check = |policy: SpendingPolicy, price: &str, expect: Result<(), fn(&Unwilling) -> bool>| {
            let offers = offers(&[price]);
            match (policy.judge(&offers[0]), expect) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(expect)) => assert!(expect(&reason), "{reason}"),
                (got, _) => panic!("{price}: {got:?}"),
            }
        };
        check(base.clone(), "100", Ok(()));
        check(base.clone(), "101", Err(|u| matches!(u, Unwilling::AboveMaximum { .. })));
        check(SpendingPolicy { max_amount: None, ..base.clone() }, "1", Err(|u| matches!(u, Unwilling::NoMaximum(_))));
        check(SpendingPolicy { network: Network::Testnet10, ..base.clone() }, "1", Err(|u| matches!(u, Unwilling::Network { .. })));
        let to = |address: String| SpendingPolicy { recipients: Some(vec![address]), ..base.clone() };
        check(to(crate::client::challenge::tests::shop_address()), "1", Ok(()));
        check(to("kaspasim:qother".into()), "1", Err(|u| matches!(u, Unwilling::Recipient(_))));
    }

    #[test]
    fn the_cheapest_allowed_offer_is_taken() {
        let policy = SpendingPolicy::up_to(Amount::from_sompi(100).unwrap(), Network::Simnet);
        assert_eq!(policy.choose(&offers(&["300", "90", "80", "200"])).unwrap().amount.sompi(), 80);
        assert_eq!(policy.choose(&offers(&["300", "200"])).unwrap_err().len(), 2);
    }
}
