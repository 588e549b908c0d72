//! The books of all sides, once everything is quiet: what buyers hold receipts for, what their journals say, the store's ledger and sums as
//! each gateway tells them, the chain, and what the API was asked.

use crate::{
    PATIENCE,
    buyer::Buyer,
    support::{channel::number, gateway::Gateway, upstream::Upstream},
};
use kas402::{
    client::{channel::record::FlightState, journal::State},
    gateway::{
        channel::report::{ChannelView, MoveStateView, PhaseView},
        ledger::{Entry, EntryState, Scheme},
    },
    protocol::ids::ChannelId,
};
use std::collections::BTreeMap;

pub async fn agree(gateways: &[Gateway], buyers: &[Buyer], upstream: &Upstream) {
    for gateway in gateways {
        gateway.ready().await;
    }
    let mut charged = 0;
    let mut ledger = None;
    for gateway in gateways {
        gateway.until_within(PATIENCE, "at rest", async || at_rest(gateway).await).await;
        let rows = ledger_of(gateway).await;
        assert_eq!(*ledger.get_or_insert_with(|| rows.clone()), rows, "all gateways tell the same");
    }
    let ledger = ledger.expect("there are gateways");
    let mut rows: BTreeMap<(ChannelId, String), u64> = BTreeMap::new();
    for row in ledger.iter().filter(|row| row.scheme == Scheme::Batch) {
        let key = (row.channel.expect("of a charge"), row.identifier.as_ref().expect("of a charge").as_str().to_owned());
        assert!(rows.insert(key, row.amount.sompi()).is_none(), "charged twice: {row:?}");
    }
    let (mut known, mut flights) = (0, 0);
    for buyer in buyers {
        let name = format!("buyer {}", buyer.number);
        for acknowledged in &buyer.charged {
            let key = (acknowledged.channel, acknowledged.identifier.as_str().to_owned());
            assert_eq!(rows.get(&key), Some(&acknowledged.amount.sompi()), "{name} holds a receipt: {acknowledged:?}");
        }
        known += buyer.charged.len();
        for channel in buyer.followed().await {
            let view = view(&gateways[0], &channel.id).await;
            let account = channel.account;
            let mine = (account.charged, account.claimed, account.funding, account.outpoint);
            assert_eq!(mine, (view.charged, view.claimed, view.funding, view.outpoint), "{name}");
            assert_eq!((account.unknown.sompi(), account.signed_amount() >= view.signed), (0, true), "{name}: {account:?} {view:?}");
            assert_eq!(buyer.held(&channel.script().address().to_string()).await, view.funding.sompi(), "{name}: the chain");
            let mut sum = 0;
            for flight in buyer.journal.flights(&channel.id, u32::MAX).unwrap() {
                let row = rows.get(&(channel.id, flight.identifier.as_str().to_owned()));
                assert_eq!(
                    (flight.state, flight.charge.map(|charge| charge.sompi())),
                    (FlightState::Charged, row.copied()),
                    "{name}: {flight:?}"
                );
                sum += row.expect("just compared");
                flights += 1;
            }
            assert_eq!(sum, view.charged.sompi(), "{name}: its requests");
            charged += sum;
        }
    }
    assert_eq!((flights, known), (rows.len(), rows.len()), "nobody is charged for what nobody asked for, and all of it was answered");

    let exact: Vec<&Entry> = ledger.iter().filter(|row| row.scheme == Scheme::Exact).collect();
    let mut paid = 0;
    for buyer in buyers {
        let history: Vec<_> = buyer.journal.history(u32::MAX).unwrap();
        for payment in &history {
            let found: Vec<_> = exact.iter().filter(|row| row.id == payment.txid).collect();
            match payment.state {
                State::Delivered => {
                    assert_eq!(found.len(), 1, "{payment:?}");
                    assert_eq!((found[0].state, found[0].amount), (EntryState::Delivered, payment.amount), "{payment:?}");
                    paid += payment.amount.sompi();
                }
                // Another transaction that excludes it took its place: never accepted, never charged.
                State::Replaced => assert!(found.is_empty(), "{payment:?}"),
                state => panic!("{state:?} {payment:?}"),
            }
        }
        let delivered = history.iter().filter(|payment| payment.state == State::Delivered);
        assert_eq!(delivered.count(), buyer.paid.len(), "buyer {}", buyer.number);
    }
    assert_eq!(exact.iter().map(|row| row.amount.sompi()).sum::<u64>(), paid, "{exact:?}");
    for gateway in gateways {
        let status = gateway.status().await;
        let (payments, channels) = (&status["payments"], &status["channels"]);
        assert_eq!((number(&payments["chargedSompi"]), number(&channels["chargedSompi"])), (paid, charged), "{status}");
        assert_eq!((number(&payments["reversedSompi"]), number(&channels["lostSompi"])), (0, 0), "{status}");
    }
    let sales = buyers.iter().map(|buyer| buyer.charged.len() + buyer.paid.len()).sum::<usize>();
    assert!(upstream.seen().len() >= sales, "everything that was sold was asked for");
    println!("{} charges of {charged} sompi, {} payments of {paid} sompi", rows.len(), exact.len());
}

/// No claim is under way, and no stream left.
async fn at_rest(gateway: &Gateway) -> bool {
    let resting = |view: &ChannelView| {
        let accepted = view.moves.iter().all(|step| step.state == MoveStateView::Accepted);
        view.phase == PhaseView::Idle && accepted && view.claim.state != "due"
    };
    views(gateway).await.iter().all(resting)
}

async fn views(gateway: &Gateway) -> Vec<ChannelView> {
    let listed: serde_json::Value = serde_json::from_str(&gateway.admin("/channels?all=true").await.1).unwrap();
    serde_json::from_value(listed["channels"].clone()).unwrap_or_else(|error| panic!("{error}: {listed}"))
}

async fn view(gateway: &Gateway, id: &ChannelId) -> ChannelView {
    views(gateway).await.into_iter().find(|view| view.channel == *id).unwrap_or_else(|| panic!("no channel {id}"))
}

/// Every payment and charge, page by page.
async fn ledger_of(gateway: &Gateway) -> Vec<Entry> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page: serde_json::Value = serde_json::from_str(&gateway.admin(&format!("/payments?limit=500{after}")).await.1).unwrap();
        let entries: Vec<Entry> = serde_json::from_value(page["entries"].clone()).unwrap_or_else(|error| panic!("{error}: {page}"));
        rows.extend(entries);
        let Some(next) = page["next"].as_str() else { return rows };
        after = format!("&after={next}");
    }
}
