//! Channels: the same demands on every store, through [`Books`], which audits the ledger after each verb.

mod charges;
mod durability;
mod leases;
mod moves;
mod openings;
mod races;
mod random;
mod reorgs;
mod streams;

pub(in crate::store) use {charges::*, durability::*, leases::*, moves::*, openings::*, races::*, random::*, reorgs::*, streams::*};

use super::*;
use crate::{
    protocol::{
        ids::{ChannelId, CommitmentId, Outpoint, Salt, SchnorrSignature, XOnlyKey},
        requirements::{Asset, TemplateId},
    },
    store::channels::*,
};

pub(in crate::store) const FUNDING: u64 = 1_000_000;
pub(in crate::store) const RESERVE: u64 = 1_000;

pub(in crate::store) fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).unwrap()
}

pub(in crate::store) fn outpoint(n: u64) -> Outpoint {
    Outpoint { txid: TxId(wide(n)), index: 0 }
}

/// The configuration of a client of its own.
pub(in crate::store) fn config(n: u64) -> ChannelConfig {
    ChannelConfig {
        network: Network::Simnet,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: XOnlyKey(wide(n)),
        server_public_key: XOnlyKey([2; 32]),
        pay_to: "kaspasim:payee".to_owned(),
        refund_address: "kaspasim:refund".to_owned(),
        refund_timeout_daa: 500_000,
        salt: Salt([0; 32]),
    }
}

/// Channel `n`: its own script, its own outpoint.
pub(in crate::store) fn opening(n: u64) -> Opening {
    opening_of(config(n), n)
}

pub(in crate::store) fn opening_of(config: ChannelConfig, n: u64) -> Opening {
    Opening {
        id: config.channel_id(),
        config,
        outpoint: outpoint(n),
        funding: sompi(FUNDING),
        reserve: sompi(RESERVE),
        transaction: Some(format!("deposit {n}").into_bytes()),
        funded_daa: None,
    }
}

/// Channel `n` with another salt: the same script.
pub(in crate::store) fn salted(n: u64, salt: u8) -> ChannelConfig {
    ChannelConfig { salt: Salt([salt; 32]), ..config(n) }
}

pub(in crate::store) fn id(n: u64) -> ChannelId {
    config(n).channel_id()
}

pub(in crate::store) fn named(k: u64) -> PaymentIdentifier {
    identifier(k).unwrap()
}

pub(in crate::store) fn nonce(k: u64) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[8..].copy_from_slice(&k.to_be_bytes());
    nonce
}

/// Request `k`: its own identifier, offer and identity.
pub(in crate::store) fn request(k: u64) -> Purpose {
    Purpose::Request { identifier: named(k), nonce: nonce(k), identity: identity(k) }
}

pub(in crate::store) fn ask(n: u64, purpose: Purpose) -> LeaseAsk {
    LeaseAsk { channel: id(n), purpose, holder: HolderId([7; 16]), hold_millis: HOLD_MILLIS }
}

pub(in crate::store) fn voucher(amount: Amount, seed: u64) -> SignedVoucher {
    let mut signature = [0x51; 64];
    signature[..8].copy_from_slice(&seed.to_be_bytes());
    SignedVoucher { amount, signature: SchnorrSignature(signature) }
}

/// Request `k` as the channel's client would pay for it.
pub(in crate::store) fn terms(record: &ChannelRecord, k: u64, ceiling: u64) -> ChargeTerms {
    let due = record.active().checked_add(sompi(ceiling)).unwrap().max(record.parts.signed);
    ChargeTerms {
        identifier: named(k),
        nonce: nonce(k),
        identity: identity(k),
        request_hash: RequestHash(wide(k)),
        requirements_hash: wide(k + 1),
        outpoint: record.outpoint,
        voucher: voucher(due, k),
        ceiling: sompi(ceiling),
        route: RouteId("chat".to_owned()),
        summary: format!("POST api.example/v1/chat/{k}"),
    }
}

pub(in crate::store) fn charge(record: &ChannelRecord, k: u64, ceiling: u64, charge: u64) -> Charge {
    Charge {
        terms: terms(record, k, ceiling),
        charge: sompi(charge),
        commitment: CommitmentId(wide(k)),
        charged_before: record.parts.charged,
        claimed: record.parts.claimed,
        status: 200,
        response: None,
    }
}

pub(in crate::store) fn committed(record: &ChannelRecord, k: u64, ceiling: u64, amount: u64) -> ChannelFact {
    ChannelFact::Committed(Box::new(charge(record, k, ceiling, amount)))
}

pub(in crate::store) fn stream(record: &ChannelRecord, k: u64, ceiling: u64) -> OpenStream {
    OpenStream {
        terms: terms(record, k, ceiling),
        charged_before: record.parts.charged,
        claimed: record.parts.claimed,
        funding: record.parts.funding,
        reading: None,
        unknown: sompi(ceiling / 2),
        status: 200,
        began_at: NOW,
    }
}

pub(in crate::store) fn reserved(stream: &OpenStream) -> ChannelFact {
    ChannelFact::Reserved(Box::new(stream.clone()))
}

/// The end of a stream.
pub(in crate::store) fn posted(stream: &OpenStream, amount: u64) -> Charge {
    Charge {
        terms: stream.terms.clone(),
        charge: sompi(amount),
        commitment: CommitmentId(wide(1)),
        charged_before: stream.charged_before,
        claimed: stream.claimed,
        status: stream.status,
        response: None,
    }
}

/// Transaction `m`: a claim of all that is active and covered, or with `added` a top-up.
pub(in crate::store) fn step(record: &ChannelRecord, m: u64, added: u64) -> Move {
    let txid = TxId(wide(m));
    let (takes, parts) = (record.claimable(), record.parts);
    let rest = parts.funding.checked_sub(takes).unwrap();
    Move {
        txid,
        transaction: format!("move {m}").into_bytes(),
        spends: record.outpoint,
        held: parts.funding,
        voucher: record.voucher.unwrap_or_else(|| voucher(Amount::ZERO, 0)),
        spends_reserve: record.reserve,
        takes,
        fee: sompi(if takes.is_zero() { 0 } else { 1 }),
        added: sompi(added),
        continuation: Outpoint { txid, index: 1 },
        funding: rest.checked_add(sompi(added)).unwrap(),
        reserve: sompi(RESERVE + m % 7),
        built_at: NOW,
        state: MoveState::Built,
        aside: Aside::default(),
    }
}

pub(in crate::store) fn built(step: &Move) -> ChannelFact {
    ChannelFact::MoveBuilt(Box::new(step.clone()))
}

pub(in crate::store) fn tx(m: u64) -> TxId {
    TxId(wide(m))
}

pub(in crate::store) fn accepted(m: u64) -> ChannelSighting {
    ChannelSighting::MoveAccepted { txid: tx(m), acceptance: acceptance(m) }
}

pub(in crate::store) fn taken_back(m: u64) -> ChannelSighting {
    ChannelSighting::MoveTakenBack { txid: tx(m) }
}

pub(in crate::store) fn is_final(m: u64) -> ChannelSighting {
    ChannelSighting::MoveFinal { txid: tx(m) }
}

pub(in crate::store) fn dropped(m: u64) -> ChannelSighting {
    ChannelSighting::MoveDropped { txid: tx(m) }
}

/// The client's refund of an outpoint.
pub(in crate::store) fn refund(outpoint: Outpoint) -> Closure {
    Closure { outpoint, by: tx(999), acceptance: acceptance(9), is_final: false }
}

pub(in crate::store) fn closed(outpoint: Outpoint) -> ChannelSighting {
    ChannelSighting::Closed(refund(outpoint))
}

pub(in crate::store) fn closed_for_good(outpoint: Outpoint) -> ChannelSighting {
    ChannelSighting::Closed(Closure { is_final: true, ..refund(outpoint) })
}

/// The variant's name, for tables.
pub(in crate::store) fn name(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

/// A store whose books are audited after every verb.
pub(in crate::store) struct Books<S: Subject>(pub S);

impl<S: Subject> Books<S> {
    pub async fn create() -> Self {
        Self(S::create().await)
    }

    pub async fn restart(self) -> Self {
        let restarted = Self(self.0.restart().await);
        restarted.audit().await;
        restarted
    }

    pub fn store(&self) -> &S::Store {
        self.0.store()
    }

    pub async fn try_open(&self, opening: &Opening, now: UnixMillis) -> Opened {
        let opened = self.store().open_channel(opening, now).await.unwrap();
        self.audit().await;
        opened
    }

    /// Channel `n`, which must be new.
    pub async fn open(&self, n: u64) -> Arc<ChannelRecord> {
        match self.try_open(&opening(n), NOW).await {
            Opened::New(record) => record,
            other => panic!("not new but {other:?}"),
        }
    }

    pub async fn try_lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Leased {
        self.store().lease(ask, now).await.unwrap()
    }

    /// A lease that must be given.
    pub async fn lease(&self, n: u64, purpose: Purpose, now: UnixMillis) -> (Lease, Arc<ChannelRecord>) {
        match self.try_lease(&ask(n, purpose), now).await {
            Leased::Held(lease, record) => (lease, record),
            other => panic!("not held but {other:?}"),
        }
    }

    pub async fn advance(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> ChannelStep {
        let step = self.store().advance_channel(lease, fact, now).await.unwrap();
        self.audit().await;
        step
    }

    pub async fn done(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Arc<ChannelRecord> {
        match self.advance(lease, fact.clone(), now).await {
            ChannelStep::Done(record) => record,
            other => panic!("{other:?} of {fact:?}"),
        }
    }

    /// A step that must be refused and change nothing.
    pub async fn refused(&self, lease: &Lease, fact: ChannelFact, why: &str) {
        let before = self.record_of(lease.channel()).await;
        let step = self.advance(lease, fact, NOW).await;
        assert!(matches!(step, ChannelStep::Refused), "{why}: {step:?}");
        assert_eq!(self.record_of(lease.channel()).await, before, "{why}");
    }

    /// Request `k` from its lease to its charge.
    pub async fn charge(&self, n: u64, k: u64, ceiling: u64, amount: u64) -> Arc<ChannelRecord> {
        let (lease, record) = self.lease(n, request(k), NOW).await;
        self.done(&lease, committed(&record, k, ceiling, amount), NOW).await
    }

    /// Transaction `m`, built over the channel as it is.
    pub async fn build(&self, n: u64, m: u64, added: u64) -> Arc<ChannelRecord> {
        let (lease, record) = self.lease(n, Purpose::Upkeep, NOW).await;
        self.done(&lease, built(&step(&record, m, added)), NOW).await
    }

    pub async fn observe(&self, n: u64, sighting: ChannelSighting) -> Observed {
        let before = self.store().channel(&id(n)).await.unwrap();
        let observed = self.store().observe_channel(&id(n), sighting.clone(), NOW).await.unwrap();
        self.audit().await;
        let after = self.store().channel(&id(n)).await.unwrap();
        assert_eq!(before != after, observed == Observed::Done, "{observed:?}: {sighting:?}\n{before:?}\n{after:?}");
        observed
    }

    /// A sighting that must change the channel.
    pub async fn sees(&self, n: u64, sighting: ChannelSighting) -> Arc<ChannelRecord> {
        assert_eq!(self.observe(n, sighting.clone()).await, Observed::Done, "{sighting:?}");
        self.record(n).await
    }

    /// A sighting that says nothing new.
    pub async fn knows(&self, n: u64, sighting: ChannelSighting) {
        assert_eq!(self.observe(n, sighting.clone()).await, Observed::Unchanged, "{sighting:?}");
    }

    pub async fn record(&self, n: u64) -> Arc<ChannelRecord> {
        self.record_of(&id(n)).await
    }

    pub async fn record_of(&self, id: &ChannelId) -> Arc<ChannelRecord> {
        self.store().channel(id).await.unwrap().expect("the channel is there")
    }

    pub async fn all(&self) -> Vec<Arc<ChannelRecord>> {
        let query = ChannelQuery { selection: ChannelSelection::All, after: 0, limit: u32::MAX };
        self.store().channels(&query).await.unwrap()
    }

    /// The sums over the rows are those of the records, and those of the totals, to the sompi.
    pub async fn audit(&self) {
        let mut sums = ChannelTotals::default();
        for record in self.all().await {
            assert_eq!(self.record_of(&record.id).await, record, "listed as it is");
            let mut charged = Amount::ZERO;
            let charges = self.store().charges(&record.id, 0, u32::MAX).await.unwrap();
            for (number, row) in (1..).zip(&charges) {
                let before = charged;
                charged = charged.checked_add(row.charge).unwrap();
                assert_eq!((row.number, row.channel, row.charged_after), (number, record.id, charged));
                assert!(row.charge <= row.terms.ceiling && (row.charge.is_zero() || row.charged_after > before), "{row:?}");
            }
            assert_eq!((charged, u64::try_from(charges.len()).unwrap()), (record.parts.charged, record.charges));
            let moves = self.store().settled_moves(&record.id, 0, u32::MAX).await.unwrap();
            let counted = moves.iter().filter(|row| row.state != SettledState::TakenBack);
            let claimed: u64 = counted.map(|row| row.takes.sompi()).sum();
            assert_eq!(claimed, record.parts.claimed.sompi(), "{moves:?}");
            sound(&record);
            let wide = |amount: Amount| u128::from(amount.sompi());
            let active = wide(record.parts.charged) - wide(record.parts.claimed);
            sums.charges += record.charges;
            sums.charged_sompi += wide(charged);
            sums.claimed_sompi += u128::from(claimed);
            if record.closure.is_some() {
                sums.closed += 1;
                sums.lost_sompi += active;
            } else {
                sums.open += 1;
                sums.active_sompi += active;
                sums.funded_sompi += wide(record.parts.funding);
            }
        }
        assert_eq!(self.store().channel_totals().await.unwrap(), sums);
        assert_eq!(sums.charged_sompi, sums.claimed_sompi + sums.active_sompi + sums.lost_sompi);
    }
}

/// What holds of a record in any phase.
fn sound(record: &ChannelRecord) {
    let parts = record.parts;
    assert!(parts.claimed <= parts.charged && parts.signed <= parts.funding, "{record:?}");
    assert_eq!(record.voucher.map_or(Amount::ZERO, |voucher| voucher.amount), parts.signed, "{record:?}");
    assert_eq!(record.stream.as_ref().map_or(Amount::ZERO, |stream| stream.terms.ceiling), parts.reserved, "{record:?}");
    assert_eq!(record.unclaimed_since.is_some(), !record.active().is_zero(), "{record:?}");
    let owed = record.exposure() <= parts.signed;
    assert!(owed || matches!(record.phase(), Phase::TakenBack | Phase::Closed), "{record:?}");
}
