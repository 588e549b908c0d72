//! Sales from channels that another gateway keeps (PROTOCOL sections 5 and 7): its facilitator has the money and the truth about it, this gateway the
//! routes, the prices and the answers.
//!
//! Promises: nothing is claimed here, and nothing forwarded, before the facilitator called the payment good, with its deposit in the escrow; an answer
//! is held, durably, until the facilitator has charged for it, and let out with its receipt; a charge whose answer is lost is asked for again
//! with the same call, by the same header, in any process, and the upstream is not asked again for an answer that is held. Nobody is asked to
//! pay again unless the facilitator says that nothing was charged. What an answer says about another charge is not believed.
//!
//! [`call`] is what the facilitator is asked, [`heard`] what its answers mean, [`deliver`] forwards, holds, settles and lets out.

mod call;
mod deliver;
mod heard;

pub(in crate::gateway) use call::{client_of, key_of};

use super::{AGAIN, RemoteFacilitator};
use crate::{
    binding::escrow_v1::{channel_unknown, payload::RoutePayload},
    gateway::{
        Gateway,
        answer::Served,
        channel::serve::ChannelSale,
        crash,
        facilitate::Act,
        flight::{Flight, Flights},
        hold::Hold,
        purchase::FOREIGN_HOLD_POLL,
        respond::Refusal,
        sell,
    },
    protocol::{
        ids::{ChannelId, PaymentIdentifier},
        network::Network,
        refusal::Code,
        requirements::{ChannelState, Finality, FinalityRule},
    },
    store::{Advanced, Claim, ClaimOutcome, Fact, FromChannel, Held, PaymentRecord, PaymentState, StoreError, StoredPayment, Submission},
    wire::messages::{ChargeReceipt, SettlementResponse},
};
use call::{Call, Presented, Wanted};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

/// Questions about payments that are not known yet, of each kind, that run at once. Clearly below the calls that a facilitator runs for one
/// tenant, so that strangers' deposits keep nobody from being charged.
const QUESTIONS: usize = 64;

/// The channels of other gateways that are used here.
pub(in crate::gateway) struct Elsewhere {
    flights: Flights<ChannelId>,
    verdicts: Semaphore,
    deposits: Semaphore,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self { flights: Flights::default(), verdicts: Semaphore::new(QUESTIONS), deposits: Semaphore::new(QUESTIONS) }
    }
}

/// A sale that the store holds for this request: the only way from a channel of another gateway's to an upstream.
#[must_use]
struct Sold {
    hold: Hold,
    /// `None` for a new one.
    record: Option<Box<PaymentRecord>>,
    sale: Box<ChannelSale>,
    /// As it was first presented.
    call: Call,
    /// Where the channel stood when it was asked about.
    state: Option<ChannelState>,
    remote: Arc<dyn RemoteFacilitator>,
    _flight: Option<Flight<ChannelId>>,
    _place: OwnedSemaphorePermit,
}

/// How the claim of a sale ended.
enum Claimed {
    Held(Held, Option<Box<PaymentRecord>>),
    Replay(Box<StoredPayment>),
    /// Another process serves it.
    Wait(Duration),
    Refused(Refusal),
}

impl Gateway {
    /// Sells one request. Returns when there is something to say; the task goes on by itself.
    pub(in crate::gateway) async fn sell_from_channel_at(
        self: &Arc<Self>,
        remote: Arc<dyn RemoteFacilitator>,
        sale: Box<ChannelSale>,
    ) -> Result<Served, Refusal> {
        let deadline = Instant::now() + sale.settle_wait() + sale.route.timeout;
        self.right_in_itself(&sale)?;
        let call = Call::of(&sale);
        let channel = call.presented.channel;
        let key = key_of(sale.policy.network, &channel, &sale.identifier);
        let claim = self.claim_of(&sale, &call)?;
        loop {
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                return Err(Refusal::new(Code::Overloaded, ""));
            };
            // Whoever comes so far holds the channel's key: as the facilitator says, or as it said of who came first.
            let (state, asked, answered) = match self.ask(self.store.payment(&key)).await.map_err(unusable)? {
                Some(known) => {
                    proves(&sale, &call.presented, &known.record)?;
                    (None, false, known.record.state == PaymentState::Delivered)
                }
                None => (self.asked_about(remote.as_ref(), &sale, &call).await?, true, false),
            };
            // Of one channel, one request at a time: the voucher of the next one is for what this one leaves.
            let flight = match self.channels.elsewhere.flights.enter(channel) {
                _ if answered => None,
                Ok(flight) => Some(flight),
                Err(landed) => {
                    drop(place);
                    // Ends when the leading flight lands, which is what we wait for.
                    let landed = timeout(deadline.saturating_duration_since(Instant::now()), landed.wait()).await;
                    if landed.is_err() {
                        return Err(Refusal::new(Code::InFlight, ""));
                    }
                    continue;
                }
            };
            match self.claim_sale(&claim).await? {
                // Left by another header for the same request, before the facilitator was asked for it: this one is claimed as what it is.
                Claimed::Held(held, Some(record)) if unasked(&record) && record.transaction != claim.transaction => {
                    if self.advance(&held, Fact::Rejected).await.map_err(unusable)? != Advanced::Done {
                        return Err(Refusal::new(Code::InFlight, ""));
                    }
                }
                Claimed::Held(held, record) => {
                    let new = record.as_deref().is_none_or(unasked);
                    let state = match state {
                        // It was freed, or given up, since it was looked at.
                        _ if new && !asked => match self.asked_about(remote.as_ref(), &sale, &call).await {
                            Ok(state) => state,
                            Err(refusal) => {
                                self.advance(&held, Fact::Rejected).await.map_err(unusable)?;
                                return Err(refusal);
                            }
                        },
                        state => state,
                    };
                    crash::point("remote_claimed");
                    let call = match record.as_deref().filter(|_| !new) {
                        Some(record) => Call::stored(record)?,
                        None => call,
                    };
                    let record = record.filter(|_| !new);
                    let hold = Hold::new(held);
                    let sold = Sold { hold, record, sale, call, state, remote, _flight: flight, _place: place };
                    let (reply, answer) = oneshot::channel();
                    tokio::spawn(self.clone().serve_sold(sold, reply));
                    return answer.await.unwrap_or_else(|_| Err(Refusal::new(Code::SettlementPending, "the gateway stopped")));
                }
                Claimed::Replay(stored) => return self.replay_sale(&sale, *stored),
                Claimed::Refused(refusal) => return Err(heard::still_open(&call, refusal, state)),
                Claimed::Wait(hold) => {
                    drop((flight, place));
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Refusal::new(Code::InFlight, ""));
                    }
                    tokio::time::sleep(hold.min(FOREIGN_HOLD_POLL).min(left)).await; // why: another process holds it, and no store event tells us
                }
            }
        }
    }

    /// What needs neither store nor facilitator.
    fn right_in_itself(&self, sale: &ChannelSale) -> Result<(), Refusal> {
        let RoutePayload::Deposit(deposit) = &sale.payload else { return Ok(()) };
        match self.verified(sale, deposit, None) {
            // A channel that exists has its own timeout, and is topped up by less: only the facilitator knows whether it does.
            Err(refusal) if matches!(refusal.code, Code::EscrowTimeout | Code::DepositTooSmall) => Ok(()),
            judged => judged.map(drop),
        }
    }

    /// Whether the facilitator takes a payment that is not known here, its deposit being in the escrow.
    async fn asked_about(&self, remote: &dyn RemoteFacilitator, sale: &ChannelSale, call: &Call) -> Result<Option<ChannelState>, Refusal> {
        let wanted = match &sale.payload {
            RoutePayload::Voucher(_) => Wanted::Verdict,
            // Nobody's money is locked up for an offer that is over; what is locked up already opens its channel.
            RoutePayload::Deposit(deposit) if deposit.funding_transaction.is_some() && sale.offer.accepted_until < self.now() => {
                Wanted::Verdict
            }
            RoutePayload::Deposit(_) => Wanted::Deposit,
        };
        let (act, places) = match wanted {
            Wanted::Deposit => (Act::Settle, &self.channels.elsewhere.deposits),
            _ => (Act::Verify, &self.channels.elsewhere.verdicts),
        };
        // What nobody has paid for yet leaves room for the charges of others.
        let _place = places.try_acquire().map_err(|_| Refusal::new(Code::Overloaded, ""))?;
        let within = sale.settle_wait().max(AGAIN);
        let answer = remote.call(act, &call.ask(wanted), within).await;
        if let Err(error) = &answer {
            tracing::warn!(%error, channel = %call.presented.channel, "facilitator");
        }
        crash::point("remote_asked");
        heard::verdict(call, wanted, answer)
    }

    fn claim_of(&self, sale: &ChannelSale, call: &Call) -> Result<Claim, Refusal> {
        let Some((pricing, ..)) = sale.parts() else {
            return Err(Refusal::new(Code::Scheme, "this route is not sold from channels any more"));
        };
        let channel = call.presented.channel;
        Ok(Claim {
            key: key_of(sale.policy.network, &channel, &sale.identifier),
            transaction: call.bytes(),
            output_index: 0,
            from_channel: Some(FromChannel { channel, identifier: sale.identifier.clone() }),
            amount: sale.accepted.amount,
            pay_to: sale.accepted.pay_to.clone(),
            route: sale.route.id.clone(),
            summary: sell::summary(&sale.request.head, sale.call.as_deref()),
            identity: sale.identity,
            request_hash: sale.request_hash,
            identifier: Some(call::offer_name(&channel, sale.offer.nonce)?),
            finality: FinalityRule { level: Finality::Accepted, depth: 0 },
            accepted_until: sale.offer.accepted_until,
            offer_daa: sale.offer.daa,
            entitlement_seconds: pricing.entitlement_seconds,
            holder: self.holder,
            hold_millis: self.limits.hold_millis(),
            late: false,
        })
    }

    async fn claim_sale(&self, claim: &Claim) -> Result<Claimed, Refusal> {
        let refused = |code: Code| Claimed::Refused(Refusal::new(code, ""));
        let outcome = self.ask(self.store.claim(claim, self.now())).await.map_err(unusable)?;
        Ok(match outcome {
            ClaimOutcome::Fresh(held) => Claimed::Held(held, None),
            ClaimOutcome::Resumed(held, record) | ClaimOutcome::Redeliver(held, record) => Claimed::Held(held, Some(record)),
            ClaimOutcome::InFlight { until } => {
                Claimed::Wait(Duration::from_millis(until.millis_since(self.now())).max(Duration::from_millis(1)))
            }
            ClaimOutcome::Delivered(stored) => Claimed::Replay(stored),
            ClaimOutcome::OtherRequest(_) => refused(Code::IdentifierReused),
            // The name is the offer's.
            ClaimOutcome::IdentifierReused(_) | ClaimOutcome::IdentifierFirst(_) => refused(Code::OfferReused),
            ClaimOutcome::Expired => refused(Code::OfferExpired),
            ClaimOutcome::EntitlementOver(record) => {
                let refusal = Refusal::new(Code::EntitlementExpired, "");
                Claimed::Refused(match receipt_of(&record) {
                    Some(receipt) => refusal.receipted(SettlementResponse::charged(record.key.network, receipt)),
                    None => refusal,
                })
            }
            ClaimOutcome::Late(_) | ClaimOutcome::Reversed(_) => refused(Code::Replay),
        })
    }

    /// The stored answer, as it was given the first time.
    fn replay_sale(&self, sale: &ChannelSale, stored: StoredPayment) -> Result<Served, Refusal> {
        let receipt = receipt_of(&stored.record).map(|receipt| self.message(sale, receipt));
        let (Some(response), Some(receipt)) = (&stored.response, &receipt) else {
            let refusal = Refusal::new(Code::EntitlementExpired, "it was charged and answered, and its response is no longer kept");
            return Err(match receipt {
                Some(receipt) => refusal.receipted(receipt),
                None => refusal,
            });
        };
        self.metrics.requests.replayed.inc();
        tracing::info!(request_id = %sale.reply.request_id, route = %sale.route.id, "replayed");
        Ok(Served::Answer(Box::new(sale.reply.replay(response, receipt))))
    }

    /// The facilitator's receipt with this gateway's next offer.
    fn message(&self, sale: &ChannelSale, receipt: ChargeReceipt) -> SettlementResponse {
        SettlementResponse::charged(sale.policy.network, ChargeReceipt { offer: self.renewed(sale), ..receipt })
    }

    /// The receipt of a charge that another gateway made for this one.
    pub(in crate::gateway) async fn receipt_of_another(
        &self,
        network: Network,
        channel: &ChannelId,
        identifier: &PaymentIdentifier,
    ) -> Result<Option<SettlementResponse>, StoreError> {
        let stored = self.ask(self.store.payment(&key_of(network, channel, identifier))).await?;
        let receipt = stored.and_then(|stored| receipt_of(&stored.record));
        Ok(receipt.map(|receipt| SettlementResponse::charged(network, receipt)))
    }
}

fn unusable(_: StoreError) -> Refusal {
    Refusal::new(Code::StoreUnavailable, "")
}

/// What was written down of the facilitator's receipt.
pub(in crate::gateway) fn receipt_of(record: &PaymentRecord) -> Option<ChargeReceipt> {
    serde_json::from_slice(record.receipt.as_deref()?).ok()
}

/// A sale that is known is its channel's holder's, for a voucher of the same output: claims show everybody those of older ones. To everybody
/// else it looks like none.
fn proves(sale: &ChannelSale, presented: &Presented, record: &PaymentRecord) -> Result<(), Refusal> {
    let first = Call::stored(record)?.presented;
    let same = first.outpoint == presented.outpoint && first.is_of_the_same_key(presented, sale.policy.network);
    if same { Ok(()) } else { Err(channel_unknown().into()) }
}

/// Whether the facilitator was never asked to charge for it.
fn unasked(record: &PaymentRecord) -> bool {
    record.state == PaymentState::Pending && record.submission == Submission::None
}
