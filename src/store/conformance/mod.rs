//! One suite for every store: `conformance!(Subject)` in the tests of an implementation makes each case a test.
//!
//! Nothing here knows how a store works. Every verb goes through [`Checked`], which demands after each that the sums
//! over the records equal the store's totals.

mod chain;
mod channels;
mod claims;
mod durability;
mod elsewhere;
mod races;
mod random;
mod steps;

pub(in crate::store) use {chain::*, channels::*, claims::*, durability::*, elsewhere::*, races::*, random::*, steps::*};

use super::*;
use crate::protocol::{
    amount::Amount,
    ids::{BlockHash, ChannelId, PaymentIdentifier, RequestHash, RequestIdentity, TxId},
    network::Network,
    policy::RouteId,
    requirements::{Finality, FinalityRule},
};
use std::sync::Arc;

/// A store under test, and what only its own tests can do to it.
pub(in crate::store) trait Subject: Sized + Send + Sync + 'static {
    type Store: Store;

    /// Random sequences that are affordable, and the length of each.
    const RANDOM: (u64, usize);

    /// Leases of channels go on after a restart: they do not lie in the process.
    const LEASES_SURVIVE: bool = false;

    async fn create() -> Self;

    fn store(&self) -> &Arc<Self::Store>;

    /// Ends the store and opens the same data again.
    async fn restart(self) -> Self;

    /// Another process that uses the same data as long as this is kept.
    fn beside(&self) -> Option<Box<dyn std::any::Any + Send>> {
        None
    }

    /// Spoils the stored record of a payment behind the store's back. `false` where there is no such record.
    async fn damage(&self, _key: &PaymentKey, _damage: Damage) -> bool {
        false
    }

    /// The same for one part of a channel: its latest charge, answer or move.
    async fn damage_channel(&self, _id: &ChannelId, _part: ChannelPart, _damage: Damage) -> bool {
        false
    }
}

/// What of a channel is stored on its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum ChannelPart {
    Terms,
    Accounts,
    Chain,
    Charge,
    Response,
    Move,
}

impl ChannelPart {
    const ALL: [Self; 6] = [Self::Terms, Self::Accounts, Self::Chain, Self::Charge, Self::Response, Self::Move];
}

#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Damage {
    /// As if a newer program had written it.
    NewerVersion,
    /// One flipped bit.
    FlippedBit,
}

/// One test per case.
macro_rules! conformance {
    ($subject:ty) => {
        conformance!(
            $subject:
            every_claim_has_its_outcome,
            outcomes_come_in_their_order,
            an_identifier_belongs_to_its_network,
            holds_expire_and_are_taken_over_once,
            a_hold_says_whose_it_is,
            redeliveries_are_limited,
            an_entitlement_ends_and_is_granted_again,
            an_unproven_claim_gives_way,
            what_was_handed_over_gives_way_only_when_it_is_decided,
            a_late_payment_waits_for_a_grant,
            an_identifier_is_free_again_after_a_reversal,
            a_freed_claim_leaves_nothing_behind,
            every_step_has_its_answer,
            a_stale_hold_changes_nothing,
            an_ended_hold_reports_again_without_effect,
            a_charge_is_booked_once,
            a_response_is_kept_and_pruned,
            an_answer_is_held_until_it_is_charged,
            what_cannot_be_held_is_charged_and_then_delivered,
            a_sale_that_was_not_charged_leaves_nothing,
            every_step_of_such_a_sale_has_its_answer,
            every_chain_fact_has_its_answer,
            a_reversal_is_booked_once,
            listings_select_and_page,
            a_checkpoint_is_replaced,
            extreme_numbers_survive,
            one_of_64_requests_gets_a_payment,
            one_of_64_transactions_gets_an_identifier,
            one_of_64_takes_over_an_expired_hold,
            concurrent_settlements_book_one_charge,
            everything_acknowledged_survives_a_restart,
            a_hold_survives_a_restart_until_it_expires,
            a_damaged_record_is_refused_and_harms_no_other,
            random_sequences_agree_with_the_model,
        );
    };
    ($subject:ty: $($case:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                crate::store::conformance::$case::<$subject>().await;
            }
        )+
    };
}
/// The same for channels.
macro_rules! channel_conformance {
    ($subject:ty) => {
        conformance!(
            $subject:
            every_opening_has_its_outcome,
            an_outpoint_belongs_to_its_channel_for_ever,
            a_deposit_is_followed,
            channels_are_listed_and_paged,
            a_server_key_is_remembered,
            every_lease_has_its_outcome,
            a_lease_expires_and_is_taken_over_once,
            a_lease_ends_with_its_last_step,
            a_refused_step_keeps_its_lease,
            a_charge_is_booked_with_its_answer,
            what_is_not_authorised_is_not_charged,
            a_channel_that_is_not_idle_charges_nothing,
            answers_of_charges_are_kept_and_pruned,
            extreme_charges_survive,
            a_stream_reserves_and_posts,
            a_stream_begins_as_its_record_stands,
            a_stream_that_never_began_is_forgotten,
            a_stream_is_posted_whatever_the_chain_does,
            a_running_stream_is_its_holders_alone,
            a_claim_runs_its_course,
            a_top_up_adds_to_the_escrow,
            a_move_takes_what_is_active_and_nothing_else,
            whichever_of_two_moves_is_accepted_counts,
            a_dropped_move_leaves_the_channel_as_it_was,
            a_reorg_moves_the_accounts_back_and_forth,
            sightings_may_come_in_any_order,
            a_reorg_may_prefer_the_other_move,
            a_top_up_that_takes_the_place_of_a_claim_brings_its_own_voucher,
            a_stream_over_the_move_that_lost_is_posted_uncovered,
            a_taken_back_move_can_be_gone_for_good,
            what_a_lost_top_up_leaves_is_claimed_as_far_as_its_voucher_goes,
            a_refund_closes_at_once_and_a_reorg_reopens,
            a_refund_and_a_claim_exclude_each_other,
            one_of_64_channels_gets_an_outpoint,
            one_of_64_requests_gets_a_lease,
            one_lease_charges_once,
            many_channels_are_served_at_once,
            every_step_of_a_channel_survives_a_restart,
            a_damaged_channel_is_refused_and_harms_no_other,
            random_channels_agree_with_the_model,
        );
    };
}
pub(in crate::store) use {channel_conformance, conformance};

pub(super) const NOW: UnixMillis = UnixMillis(1_750_000_000_000);
pub(super) const HOLD_MILLIS: u64 = 5_000;
pub(super) const ENTITLEMENT_SECONDS: u64 = 3_600;
pub(super) const OFFER_SECONDS: u64 = 60;

/// The claim numbered `n`: its own transaction, request and amount, no identifier.
pub(super) fn claim(n: u64) -> Claim {
    Claim {
        key: key(n),
        transaction: format!("transaction {n}").into_bytes(),
        output_index: 1,
        from_channel: None,
        amount: Amount::from_sompi(25_000_000 + n).unwrap(),
        pay_to: "kaspasim:payee".to_owned(),
        route: RouteId("chat".to_owned()),
        summary: format!("POST /v1/chat/{n}"),
        identity: identity(n),
        request_hash: RequestHash(wide(n + 1)),
        identifier: None,
        finality: FinalityRule { level: Finality::Confirmed, depth: 10 },
        accepted_until: NOW.plus_seconds(OFFER_SECONDS),
        offer_daa: 77,
        entitlement_seconds: ENTITLEMENT_SECONDS,
        holder: HolderId([7; 16]),
        hold_millis: HOLD_MILLIS,
        late: false,
    }
}

pub(super) fn key(n: u64) -> PaymentKey {
    PaymentKey { network: Network::Simnet, txid: TxId(wide(n)) }
}

pub(super) fn identity(n: u64) -> RequestIdentity {
    RequestIdentity(wide(n))
}

pub(super) fn identifier(n: u64) -> Option<PaymentIdentifier> {
    Some(PaymentIdentifier::parse(&format!("identifier-{n:010}")).unwrap())
}

pub(super) fn acceptance(n: u64) -> Acceptance {
    Acceptance { block: BlockHash(wide(n)), blue_score: n, daa_score: n + 1 }
}

pub(super) fn response(text: &str) -> StoredResponse {
    let headers = vec![("content-type".to_owned(), b"text/plain".to_vec()), ("x-odd".to_owned(), vec![0xff, 0x00])];
    StoredResponse { status: 200, headers, body: text.to_owned().into() }
}

pub(super) fn settled() -> Fact {
    Fact::Settled { acceptance: Some(acceptance(500)), payer: Some("kaspasim:payer".to_owned()) }
}

pub(super) fn delivered(response: Option<StoredResponse>) -> Fact {
    Fact::Delivered { status: 200, response }
}

pub(super) fn query(selection: Selection) -> Query {
    Query { selection, after: 0, limit: u32::MAX }
}

fn wide(n: u64) -> [u8; 32] {
    let mut bytes = [0xa5; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// A claim's outcome without the hold, comparable between stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Fresh,
    Resumed(PaymentRecord),
    InFlight(UnixMillis),
    Delivered(StoredPayment),
    Redeliver(PaymentRecord),
    OtherRequest(PaymentRecord),
    IdentifierReused(PaymentRecord),
    IdentifierFirst(PaymentRecord),
    Expired,
    EntitlementOver(PaymentRecord),
    Late(PaymentRecord),
    Reversed(PaymentRecord),
}

impl Seen {
    /// The variant's name, for tables.
    pub(super) fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split(['(', ' ']).next().unwrap_or_default().to_owned()
    }
}

pub(super) fn seen(outcome: ClaimOutcome) -> (Seen, Option<Held>) {
    match outcome {
        ClaimOutcome::Fresh(held) => (Seen::Fresh, Some(held)),
        ClaimOutcome::Resumed(held, record) => (Seen::Resumed(*record), Some(held)),
        ClaimOutcome::InFlight { until } => (Seen::InFlight(until), None),
        ClaimOutcome::Delivered(payment) => (Seen::Delivered(*payment), None),
        ClaimOutcome::Redeliver(held, record) => (Seen::Redeliver(*record), Some(held)),
        ClaimOutcome::OtherRequest(record) => (Seen::OtherRequest(*record), None),
        ClaimOutcome::IdentifierReused(record) => (Seen::IdentifierReused(*record), None),
        ClaimOutcome::IdentifierFirst(record) => (Seen::IdentifierFirst(*record), None),
        ClaimOutcome::Expired => (Seen::Expired, None),
        ClaimOutcome::EntitlementOver(record) => (Seen::EntitlementOver(*record), None),
        ClaimOutcome::Late(record) => (Seen::Late(*record), None),
        ClaimOutcome::Reversed(record) => (Seen::Reversed(*record), None),
    }
}

/// A store whose books are checked after every verb.
pub(super) struct Checked<S: Subject>(pub S);

impl<S: Subject> Checked<S> {
    pub async fn create() -> Self {
        Self(S::create().await)
    }

    pub async fn restart(self) -> Self {
        let restarted = Self(self.0.restart().await);
        restarted.conserved().await;
        restarted
    }

    pub fn store(&self) -> &S::Store {
        self.0.store()
    }

    pub async fn claim(&self, claim: &Claim, now: UnixMillis) -> (Seen, Option<Held>) {
        let outcome = self.store().claim(claim, now).await.unwrap();
        self.conserved().await;
        seen(outcome)
    }

    /// A claim that must be the first of its payment.
    pub async fn fresh(&self, claim: &Claim, now: UnixMillis) -> Held {
        let (seen, held) = self.claim(claim, now).await;
        held.filter(|_| seen == Seen::Fresh).unwrap_or_else(|| panic!("not fresh but {seen:?}"))
    }

    /// A claim that must hold a known payment again.
    pub async fn resumed(&self, claim: &Claim, now: UnixMillis) -> Held {
        let (seen, held) = self.claim(claim, now).await;
        held.filter(|_| seen.name() == "Resumed").unwrap_or_else(|| panic!("not resumed but {seen:?}"))
    }

    pub async fn advance(&self, held: &Held, fact: Fact, now: UnixMillis) -> Advanced {
        let outcome = self.store().advance(held, fact, now).await.unwrap();
        self.conserved().await;
        outcome
    }

    pub async fn done(&self, held: &Held, facts: impl IntoIterator<Item = Fact>, now: UnixMillis) {
        for fact in facts {
            assert_eq!(self.advance(held, fact.clone(), now).await, Advanced::Done, "{fact:?}");
        }
    }

    pub async fn observe(&self, n: u64, fact: ChainFact, now: UnixMillis) -> Observed {
        let outcome = self.store().observe(&key(n), fact, now).await.unwrap();
        self.conserved().await;
        outcome
    }

    pub async fn payment(&self, n: u64) -> Option<StoredPayment> {
        self.store().payment(&key(n)).await.unwrap()
    }

    pub async fn record(&self, n: u64) -> PaymentRecord {
        self.payment(n).await.unwrap().record
    }

    pub async fn sequences(&self, query: Query) -> Vec<u64> {
        self.store().payments(&query).await.unwrap().into_iter().map(|record| record.sequence).collect()
    }

    /// The sums over the records are the totals, to the sompi; a record is charged exactly when its state says so.
    pub async fn conserved(&self) {
        let mut sums = Totals::default();
        for record in self.store().payments(&query(Selection::All)).await.unwrap() {
            let amount = u128::from(record.cost().sompi());
            sums.charged_sompi += if record.charged { amount } else { 0 };
            match record.state {
                PaymentState::Pending => sums.pending += 1,
                PaymentState::Settled => {
                    sums.settled += 1;
                    sums.owed_sompi += amount;
                }
                PaymentState::Delivered => sums.delivered += 1,
                PaymentState::Reversed => {
                    sums.reversed += 1;
                    sums.reversed_sompi += if record.charged { amount } else { 0 };
                }
            }
            assert_eq!(record.charged, record.settled_at.is_some(), "{record:?}");
            assert!(record.charged || matches!(record.state, PaymentState::Pending | PaymentState::Reversed), "{record:?}");
        }
        assert_eq!(self.store().totals().await.unwrap(), sums);
    }
}
