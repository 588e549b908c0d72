//! Making offers and recognising them again (PROTOCOL section 3).

use super::{Gateway, remote::RemoteChannels};
use crate::{
    protocol::{
        ids::XOnlyKey,
        limits,
        offer::{OfferContext, OfferError, OfferKeys, OfferToken},
        policy::{Accept, Policy, Pricing, Route, Terms},
        price::{Price, PriceError},
        refusal::Code,
        request::Request,
        requirements::{
            Asset, ChannelState, EscrowExtra, ExactExtra, Extra, Finality, FinalityRule, PaymentFlow, Requirements, TemplateId,
            VoucherState,
        },
        time::UnixMillis,
    },
    wire::{canonical, envelope::Fault},
};

/// Depth taken for a quote of `confirmed` that the configuration no longer names.
const CONFIRMED_DEPTH: u64 = 10;

/// One way to pay this very request.
pub(super) struct Quote<'p> {
    pub accept: &'p Accept,
    pub price: Price,
}

/// The price of the request under every way to pay; one that cannot be priced refuses the request.
pub(super) fn quotes<'p>(pricing: &'p Pricing, request: &Request) -> Result<Vec<Quote<'p>>, PriceError> {
    pricing.accepts.iter().map(|accept| Ok(Quote { accept, price: accept.price.evaluate(request)? })).collect()
}

/// What an offer is made with.
pub(super) struct Signing<'a> {
    pub keys: &'a OfferKeys,
    pub now: UnixMillis,
    pub daa_score: u64,
    /// Of a gateway whose channels another one has.
    pub remote: Option<RemoteChannels>,
}

impl Gateway {
    pub(super) fn signing<'a>(&self, keys: &'a OfferKeys) -> Signing<'a> {
        Signing { keys, now: self.now(), daa_score: self.chain.tip().borrow().daa_score, remote: self.remote_channels() }
    }
}

/// The signed requirements of one quote; `None` when there is no signing key, or no refund timeout within the network's lock times.
/// `correction` goes into terms of the channel's scheme, recipient and key.
pub(super) fn offer(
    policy: &Policy,
    route: &Route,
    pricing: &Pricing,
    quote: &Quote<'_>,
    signing: &Signing<'_>,
    correction: Option<&Correction>,
    nonce: [u8; 16],
) -> Option<Requirements> {
    let mut terms = terms(policy, pricing, quote, signing, correction)?;
    let context = OfferContext { origin: &route.origin, route: &route.id, rule_id: &quote.accept.rule_id, inputs: &quote.price.inputs };
    let token = OfferToken::sign(
        signing.keys,
        &context,
        &canonical::sorted_to_vec(&terms),
        signing.now,
        pricing.offer_seconds,
        signing.daa_score,
        nonce,
    )?;
    *terms.extra.offer_mut() = token.to_string();
    Some(terms)
}

fn terms(
    policy: &Policy,
    pricing: &Pricing,
    quote: &Quote<'_>,
    signing: &Signing<'_>,
    correction: Option<&Correction>,
) -> Option<Requirements> {
    let accept = quote.accept;
    let extra = match &accept.terms {
        Terms::Exact(exact) => {
            Extra::Exact(ExactExtra { finality: exact.finality.level, offer: String::new(), payment_flow: PaymentFlow::Upfront })
        }
        Terms::Channel(channel) => {
            let (server_key, refund_timeout_daa) = match (channel.server_key, signing.remote) {
                (Some(key), _) => (key, policy.channels.as_ref()?.refund_timeout(signing.daa_score)?),
                (None, remote) => (remote?.server_key, remote?.refund_timeout_daa),
            };
            let correction = correction.filter(|correction| correction.server_key == server_key && correction.pay_to == accept.pay_to);
            Extra::Escrow(Box::new(EscrowExtra {
                channel_state: correction.map(|correction| correction.channel.clone()),
                claim_policy: channel.claim_policy.clone(),
                min_deposit_sompi: channel.min_deposit,
                offer: String::new(),
                refund_timeout_daa,
                server_public_key: server_key,
                template_id: TemplateId::EscrowV1,
                voucher_state: correction.map(|correction| correction.voucher.clone()),
            }))
        }
    };
    Some(Requirements {
        scheme: accept.scheme(),
        network: policy.network,
        amount: quote.price.amount,
        asset: Asset::Kas,
        pay_to: accept.pay_to.clone(),
        max_timeout_seconds: pricing.offer_seconds,
        extra,
    })
}

/// What a corrective 402 tells the holder of a channel's key (PROTOCOL section 5).
#[derive(Clone, Debug)]
pub(super) struct Correction {
    pub server_key: XOnlyKey,
    pub pay_to: String,
    pub channel: ChannelState,
    pub voucher: VoucherState,
}

/// An authentic offer, and the way to pay it belongs to.
pub(super) struct Authentic<'q, 'p> {
    pub quote: &'q Quote<'p>,
    pub token: OfferToken,
    /// The terms with their offer as canonical JSON: what is hashed as the client was told to.
    pub canonical: Vec<u8>,
}

/// Recognises `accepted` as one of our offers for this very request. Age is not judged here.
pub(super) fn authenticate<'q, 'p>(
    policy: &Policy,
    route: &Route,
    quotes: &'q [Quote<'p>],
    accepted: &Requirements,
    keys: &OfferKeys,
    now: UnixMillis,
) -> Result<Authentic<'q, 'p>, Fault> {
    if accepted.network != policy.network {
        return Err(Fault::new(Code::Network, format!("this gateway sells on {}", policy.network)));
    }
    let token = OfferToken::parse(accepted.extra.offer())
        .map_err(|_| Fault::new(Code::OfferMalformed, "accepted.extra.offer is not an offer token"))?;
    let canonical = canonical::sorted_to_vec(accepted);
    let terms = unsigned(&canonical, accepted);
    // A rule that another configuration made of another scheme keeps its name, not its meaning.
    for quote in quotes.iter().filter(|quote| quote.accept.scheme() == accepted.scheme) {
        let context = OfferContext { origin: &route.origin, route: &route.id, rule_id: &quote.accept.rule_id, inputs: &quote.price.inputs };
        match token.authenticate(keys, &context, &terms, now) {
            Ok(()) => return Ok(Authentic { quote, token, canonical }),
            Err(OfferError::KeyUnknown) => {
                return Err(Fault::new(Code::OfferKeyUnknown, "the offer's key is not, or no longer, known here"));
            }
            Err(_) => {}
        }
    }
    Err(diagnose(policy, route, &token, &terms, keys, now))
}

/// The canonical terms as they are signed: with an empty offer. Cut out of what is printed already.
fn unsigned(canonical: &[u8], accepted: &Requirements) -> Vec<u8> {
    const MEMBER: &str = r#""offer":""#;
    let offer = accepted.extra.offer();
    let text = std::str::from_utf8(canonical).unwrap_or_default();
    // Within strings a quotation mark is escaped, so this is a member's name, and terms have one of that name. A token is printed as it is.
    if let Some((before, rest)) = text.split_once(MEMBER)
        && let Some(after) = rest.strip_prefix(offer)
        && after.starts_with('"')
    {
        return [before, MEMBER, after].concat().into_bytes();
    }
    let mut unsigned = accepted.clone();
    unsigned.extra.offer_mut().clear();
    canonical::sorted_to_vec(&unsigned)
}

/// Names why an offer does not authenticate by trying what else it could have been made for. Bounded;
/// it changes only the words of the refusal, never the refusal.
fn diagnose(policy: &Policy, route: &Route, token: &OfferToken, terms: &[u8], keys: &OfferKeys, now: UnixMillis) -> Fault {
    let here = std::iter::once(route);
    let sold = policy.router.routes().iter().flat_map(|other| other.sold());
    let others = sold.filter(|other| other.id != route.id || other.origin != route.origin);
    let mut tries = 0;
    for candidate in here.chain(others) {
        let Some(pricing) = candidate.pricing() else { continue };
        for accept in &pricing.accepts {
            for price in accept.price.alternatives() {
                tries += 1;
                if tries > limits::OFFER_DIAGNOSES {
                    return not_ours();
                }
                let context =
                    OfferContext { origin: &candidate.origin, route: &candidate.id, rule_id: &accept.rule_id, inputs: &price.inputs };
                if token.authenticate(keys, &context, terms, now).is_ok() {
                    return if candidate.id == route.id {
                        Fault::new(Code::OfferOtherPrice, "this request has another price than the one the offer was made for")
                    } else {
                        Fault::new(Code::OfferOtherRoute, "the offer was made for another route")
                    };
                }
            }
        }
    }
    not_ours()
}

fn not_ours() -> Fault {
    Fault::new(Code::OfferNotOurs, "accepted is not an offer of this gateway's, or was changed")
}

/// The route's present demand, or what was quoted when that was stronger.
pub(super) fn finality(rule: FinalityRule, quoted: Finality) -> FinalityRule {
    match (rule.level, quoted) {
        (Finality::Mempool | Finality::Accepted, Finality::Confirmed) => {
            FinalityRule { level: Finality::Confirmed, depth: CONFIRMED_DEPTH }
        }
        (Finality::Mempool, Finality::Accepted) => FinalityRule { level: Finality::Accepted, depth: 0 },
        _ => rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{amount::Amount, ids::*, network::Network, requirements::Scheme};

    #[test]
    fn what_is_signed_are_the_terms_without_their_offer() {
        let amount = Amount::from_sompi(1_000).unwrap();
        let outpoint = Outpoint { txid: TxId([1; 32]), index: 1 };
        let state = ChannelState {
            active_outpoint: outpoint,
            active_script_public_key: P2shScript([2; 37]),
            channel_id: ChannelId([3; 32]),
            charged_cumulative_amount: amount,
            claimed_cumulative_amount: amount,
            funding_amount: amount,
            signed_max_claimable: amount,
        };
        let escrow = |offer: &str, corrected: bool, said: &str| {
            Extra::Escrow(Box::new(EscrowExtra {
                channel_state: corrected.then(|| state.clone()),
                claim_policy: Some(said.to_owned()),
                min_deposit_sompi: amount,
                offer: offer.to_owned(),
                refund_timeout_daa: 9,
                server_public_key: XOnlyKey([4; 32]),
                template_id: TemplateId::EscrowV1,
                voucher_state: corrected.then_some(VoucherState { amount, signature: Some(SchnorrSignature([5; 64])) }),
            }))
        };
        let exact = |offer: &str| {
            Extra::Exact(ExactExtra { finality: Finality::Accepted, offer: offer.to_owned(), payment_flow: PaymentFlow::Upfront })
        };
        for said in ["", "daily", r#""offer":"v1.a""#, "\\\"offer\":\"\\"] {
            for offer in ["", "v1.a.b", "v1.\"", "v1.\\", "v1.\u{e9}\n"] {
                for (scheme, extra) in [
                    (Scheme::Exact, exact(offer)),
                    (Scheme::BatchSettlement, escrow(offer, false, said)),
                    (Scheme::BatchSettlement, escrow(offer, true, said)),
                ] {
                    let (network, asset) = (Network::Simnet, Asset::Kas);
                    let terms = Requirements { scheme, network, amount, asset, pay_to: said.to_owned(), max_timeout_seconds: 60, extra };
                    let mut without = terms.clone();
                    without.extra.offer_mut().clear();
                    let expect = canonical::to_vec(&without);
                    assert_eq!(unsigned(&canonical::sorted_to_vec(&terms), &terms), expect, "{said} {offer}");
                }
            }
        }
    }
}
