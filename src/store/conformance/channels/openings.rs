//! `open_channel`, listings, what the chain says of the deposit, server keys.

use super::*;

pub(in crate::store) async fn every_opening_has_its_outcome<S: Subject>() {
    let books = Books::<S>::create().await;
    let record = books.open(1).await;
    let Opening { id, config, outpoint: deposit, funding, reserve, transaction, .. } = opening(1);
    let expect = ChannelRecord {
        sequence: 1,
        id,
        config,
        outpoint: deposit,
        parts: Parts { funding, ..Parts::default() },
        voucher: None,
        reserve,
        deposit: Deposit { outpoint: deposit, funding, transaction, taken_back: false, funded_daa: None },
        moves: vec![],
        before: None,
        stream: None,
        closure: None,
        opened_at: NOW,
        charges: 0,
        unclaimed_since: None,
        last_charge_at: None,
    };
    assert_eq!(*record, expect);
    assert_eq!(record.phase(), Phase::Idle);
    let other_network = ChannelConfig { network: Network::Testnet10, ..config_of(1) };
    for (what, opening, expect) in [
        ("again", opening(1), "Known"),
        ("its outpoint under another id", opening_of(config_of(2), 1), "OutpointInUse"),
        ("its outpoint and its script under another salt", opening_of(salted(1, 9), 1), "OutpointInUse"),
        ("itself over another outpoint", opening_of(config_of(1), 3), "ScriptInUse"),
        ("another outpoint under its script", opening_of(salted(1, 9), 3), "ScriptInUse"),
        ("what was refused leaves its outpoint free", opening(3), "New"),
        ("its outpoint on another network", opening_of(other_network, 1), "New"),
    ] {
        assert_eq!(name(&books.try_open(&opening, NOW.plus_millis(1)).await), expect, "{what}");
    }
    assert_eq!(*books.record(1).await, *record, "no attempt changed it");
    assert_eq!(books.all().await.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3]);
}

fn config_of(n: u64) -> ChannelConfig {
    config(n)
}

pub(in crate::store) async fn an_outpoint_belongs_to_its_channel_for_ever<S: Subject>() {
    let mut books = Books::<S>::create().await;
    for n in 1..=3 {
        books.open(n).await;
    }
    // Channel 1 goes on over the output of its claim, which is its own from before the claim is sent.
    books.charge(1, 1, 500, 400).await;
    let record = books.build(1, 50, 0).await;
    let over = |config, outpoint| Opening { outpoint, ..opening_of(config, 0) };
    let continuation = record.moves[0].continuation;
    let stranger = over(config(7), continuation);
    assert_eq!(name(&books.try_open(&stranger, NOW).await), "OutpointInUse", "built");
    books.sees(1, accepted(50)).await;
    assert_eq!(name(&books.try_open(&over(config(1), continuation), NOW).await), "Known", "over the active outpoint");
    assert_eq!(name(&books.try_open(&opening(1), NOW).await), "Known", "over the first one");
    books.sees(1, is_final(50)).await;
    books = books.restart().await;
    for outpoint in [continuation, outpoint(1)] {
        assert_eq!(name(&books.try_open(&over(config(7), outpoint), NOW).await), "OutpointInUse");
    }
    // A closure frees the script once it is final, and never the outpoint.
    books.sees(2, closed(outpoint(2))).await;
    assert_eq!(name(&books.try_open(&opening_of(salted(2, 9), 20), NOW).await), "ScriptInUse", "a reorg may reopen it");
    books.sees(2, closed_for_good(outpoint(2))).await;
    assert_eq!(name(&books.try_open(&opening_of(salted(2, 9), 2), NOW).await), "OutpointInUse");
    assert_eq!(name(&books.try_open(&opening_of(salted(2, 9), 20), NOW).await), "New");
    assert_eq!(name(&books.try_open(&opening_of(config(2), 21), NOW).await), "ScriptInUse", "a channel has one deposit");
    assert_eq!(name(&books.try_open(&opening(2), NOW).await), "Known", "closed");
    // A deposit that never was frees record and script, and never the outpoint.
    books.observe(3, ChannelSighting::NeverFunded).await;
    assert_eq!(books.store().channel(&id(3)).await.unwrap(), None);
    assert_eq!(books.observe(3, ChannelSighting::NeverFunded).await, Observed::NotFound);
    books = books.restart().await;
    assert_eq!(name(&books.try_open(&opening_of(config(8), 3), NOW).await), "OutpointInUse");
    assert_eq!(name(&books.try_open(&opening_of(salted(3, 9), 30), NOW).await), "New");
    assert_eq!(name(&books.try_open(&opening(3), NOW).await), "ScriptInUse", "the script is another's now");
    books.observe_of(&salted(3, 9).channel_id(), ChannelSighting::NeverFunded).await;
    let again = books.open(3).await;
    assert_eq!(again.sequence, 6, "a number is given once");
    books.charge(3, 3, 10, 10).await;
}

impl<S: Subject> Books<S> {
    async fn observe_of(&self, id: &ChannelId, sighting: ChannelSighting) {
        assert_eq!(self.store().observe_channel(id, sighting, NOW).await.unwrap(), Observed::Done);
        self.audit().await;
    }
}

pub(in crate::store) async fn a_deposit_is_followed<S: Subject>() {
    use ChannelSighting::{DepositFinal, Funded, NeverFunded, Unfunded};
    let books = Books::<S>::create().await;
    assert_eq!(books.store().observe_channel(&id(1), Unfunded, NOW).await.unwrap(), Observed::NotFound);
    let first = books.open(1).await;
    books.knows(1, Unfunded).await;
    assert_eq!(books.sees(1, Funded { daa_score: 5 }).await.deposit.funded_daa, Some(5));
    books.knows(1, Funded { daa_score: 5 }).await;
    assert_eq!(books.sees(1, Funded { daa_score: 6 }).await.deposit.funded_daa, Some(6));
    let gone = books.sees(1, Unfunded).await;
    assert_eq!(gone.deposit, Deposit { taken_back: true, ..first.deposit.clone() });
    assert!(!books.sees(1, Funded { daa_score: 7 }).await.deposit.taken_back);
    let kept = books.sees(1, DepositFinal).await.deposit.clone();
    assert_eq!(kept, Deposit { transaction: None, funded_daa: Some(7), ..first.deposit.clone() });
    books.knows(1, DepositFinal).await;
    // Once anything was charged, or may be, the channel was.
    let (lease, record) = books.lease(1, request(1), NOW).await;
    books.done(&lease, reserved(&stream(&record, 1, 10)), NOW).await;
    books.knows(1, NeverFunded).await;
    books.done(&lease, ChannelFact::Released, NOW).await;
    books.charge(1, 2, 10, 0).await;
    books.knows(1, NeverFunded).await;
    // A lease of a channel that never was is over.
    books.open(2).await;
    let (lease, record) = books.lease(2, request(3), NOW).await;
    assert_eq!(books.observe(2, NeverFunded).await, Observed::Done);
    assert!(matches!(books.advance(&lease, committed(&record, 3, 10, 10), NOW).await, ChannelStep::Stale));
    books.open(2).await;
    assert!(matches!(books.advance(&lease, committed(&record, 3, 10, 10), NOW).await, ChannelStep::Stale), "another channel's");
    assert!(matches!(books.try_lease(&ask(9, Purpose::Upkeep), NOW).await, Leased::Unknown));
}

pub(in crate::store) async fn channels_are_listed_and_paged<S: Subject>() {
    let books = Books::<S>::create().await;
    for n in 1..=9 {
        books.open(n).await;
    }
    for n in [3, 6] {
        books.sees(n, closed(outpoint(n))).await;
    }
    for n in [6, 9] {
        books.sees(n, closed_for_good(outpoint(n))).await;
    }
    books.observe(5, ChannelSighting::NeverFunded).await;
    for (selection, expect) in [(ChannelSelection::All, vec![1, 2, 3, 4, 6, 7, 8, 9]), (ChannelSelection::Open, vec![1, 2, 3, 4, 7, 8])] {
        for limit in [1, 2, 3, 8, u32::MAX] {
            let mut paged: Vec<u64> = Vec::new();
            loop {
                let query = ChannelQuery { selection, after: paged.last().copied().unwrap_or(0), limit };
                let page = books.store().channels(&query).await.unwrap();
                if page.is_empty() {
                    break;
                }
                paged.extend(page.iter().map(|record| record.sequence));
            }
            assert_eq!(paged, expect, "{selection:?}, {limit} at a time");
        }
        for (after, limit) in [(0, 0), (u64::MAX, 9), (9, 9)] {
            assert!(books.store().channels(&ChannelQuery { selection, after, limit }).await.unwrap().is_empty());
        }
    }
    let ChannelTotals { open, closed, .. } = books.store().channel_totals().await.unwrap();
    assert_eq!((open, closed), (5, 3));
}

pub(in crate::store) async fn a_server_key_is_remembered<S: Subject>() {
    let mut books = Books::<S>::create().await;
    for _ in 0..2 {
        for (key, expect) in [(1, true), (1, false), (2, true), (2, false)] {
            let first = books.store().add_server_key(XOnlyKey(wide(key))).await.unwrap();
            assert!(first == expect || !first, "{key}");
        }
        books = books.restart().await;
    }
    for key in [1, 2] {
        assert!(!books.store().add_server_key(XOnlyKey(wide(key))).await.unwrap());
    }
    assert!(books.store().add_server_key(XOnlyKey(wide(3))).await.unwrap());
}
