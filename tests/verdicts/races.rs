//! One payment through two ways in at the same moment: one sells for it, the other refuses with the code that is written down for that.

use crate::{
    Runner, SOLD, Said,
    doors::{AtFacilitator, AtProxy},
    mcp::AtMcp,
    place,
    stories::{named, with_identifier},
    support::{
        channel::{Channel, new_identifier, number},
        devnet::{Coin, KAS, Wallet},
        edge,
        pay::{self, Ask},
        tenants::Place,
    },
    table::Scheme,
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::TransactionOutput;
use serde_json::Value;

/// Of every pair; either way comes first in turn.
const RACES: u64 = 4;

/// What was sold, and for how much.
#[derive(Default)]
struct Sold {
    sompi: u64,
    at_edge: u64,
}

/// One transaction that pays both, with one output where both are paid alike.
async fn paying_both(left: &impl Runner, right: &impl Runner, payer: &Wallet, coin: &Coin) -> [Value; 2] {
    let terms = [left.terms(Scheme::Exact).await, right.terms(Scheme::Exact).await];
    let mut outputs: Vec<TransactionOutput> = Vec::new();
    let indices = [&terms[0], &terms[1]].map(|terms| {
        let address = Address::try_from(terms["payTo"].as_str().unwrap()).unwrap();
        let output = TransactionOutput::new(number(&terms["amount"]), kaspa_txscript::pay_to_address_script(&address));
        outputs.iter().position(|known| *known == output).unwrap_or_else(|| {
            outputs.push(output);
            outputs.len() - 1
        })
    });
    let transaction = payer.build(std::slice::from_ref(coin), outputs, 200);
    let mut messages = terms.map(|terms| pay::message(&Ask::get("/"), &terms, &transaction));
    for (message, index) in messages.iter_mut().zip(indices) {
        message["payload"].as_object_mut().unwrap().remove("requestHash");
        message["payload"]["paymentOutputIndex"] = index.into();
        *message = with_identifier(std::mem::take(message));
    }
    messages
}

async fn race(left: &impl Runner, right: &impl Runner, payer: &Wallet, coins: &mut Vec<Coin>, sold: &mut Sold) {
    for round in 0..RACES {
        let [to_left, to_right] = paying_both(left, right, payer, &coins.pop().unwrap()).await;
        let operation = u8::try_from(round).unwrap();
        let (at_left, at_right) = if round.is_multiple_of(2) {
            tokio::join!(left.said(operation, &to_left), right.said(operation, &to_right))
        } else {
            let (at_right, at_left) = tokio::join!(right.said(operation, &to_right), left.said(operation, &to_left));
            (at_left, at_right)
        };
        let codes = [at_left.code.as_str(), at_right.code.as_str()];
        let names = [left.name(), right.name()];
        let winner = codes.iter().position(|code| *code == SOLD).unwrap_or_else(|| panic!("{names:?}: nobody sold: {codes:?}"));
        assert_eq!(codes[1 - winner], "invalid_kaspa_exact_replay", "{names:?}: {codes:?}");
        let paid = number(&[&to_left, &to_right][winner]["accepted"]["amount"]);
        sold.sompi += paid;
        sold.at_edge += if names[winner] == "edge" { paid } else { 0 };
        // And it stays so.
        let again = [left.said(operation, &to_left).await.code, right.said(operation, &to_right).await.code];
        assert_eq!([again[0].as_str(), again[1].as_str()], codes, "{names:?}");
    }
}

#[tokio::test]
async fn one_payment_through_two_ways_in_at_once_is_sold_once() {
    let place = place().await;
    let routes = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS, payment_identifier: required}";
    let gateway = edge::start(&place, 2, place.gateway.facilitator(), routes, 60).await;
    let (proxy, at_edge) = (AtProxy::of("proxy", &place.gateway), AtProxy::of("edge", &gateway));
    let mcp = AtMcp { place: &place, path: "/mcp" };
    let [shop, strict, itself] = [0, 1, 2].map(|tenant| AtFacilitator { place: &place, tenant });
    let payer = Wallet::new(1);
    let mut coins = place.devnet.fund(&payer, 10 * KAS, 8 * RACES).await;
    let mut sold = Sold::default();
    race(&proxy, &mcp, &payer, &mut coins, &mut sold).await;
    race(&proxy, &shop, &payer, &mut coins, &mut sold).await;
    race(&mcp, &shop, &payer, &mut coins, &mut sold).await;
    race(&shop, &strict, &payer, &mut coins, &mut sold).await;
    race(&at_edge, &proxy, &payer, &mut coins, &mut sold).await;
    race(&at_edge, &mcp, &payer, &mut coins, &mut sold).await;
    race(&at_edge, &shop, &payer, &mut coins, &mut sold).await;
    // The edge's own tenant, for a request of its own.
    race(&at_edge, &itself, &payer, &mut coins, &mut sold).await;
    for (gateway, sompi) in [(&place.gateway, sold.sompi), (&gateway, sold.at_edge)] {
        let sompi = sompi.to_string();
        let booked = async || gateway.payments().await["chargedSompi"] == *sompi;
        gateway.until("all is booked, and nothing twice", booked).await;
    }
}

/// Both sell for the channels of one key: one voucher, two doors.
#[tokio::test]
async fn one_voucher_through_two_ways_in_at_once_is_charged_once() {
    let place = place().await;
    let (proxy, mcp) = (AtProxy::of("proxy", &place.gateway), AtMcp { place: &place, path: "/mcp" });
    let mut channel = opened(&place, &proxy).await;
    for round in 0..RACES {
        let operation = u8::try_from(round).unwrap() + 1;
        let due = channel.active() + KAS;
        let (terms, tool) = (proxy.terms(Scheme::Batch).await, mcp.terms(Scheme::Batch).await);
        let voucher = |terms: &Value| named(&channel.paying_exactly(terms, due, &new_identifier()));
        let (at_proxy, at_mcp) = (voucher(&terms), voucher(&tool));
        let (left, right) = if round.is_multiple_of(2) {
            tokio::join!(proxy.said(operation, &at_proxy), mcp.said(operation, &at_mcp))
        } else {
            let (right, left) = tokio::join!(mcp.said(operation, &at_mcp), proxy.said(operation, &at_proxy));
            (left, right)
        };
        let (winner, loser): (&Said, &Said) = if left.code == SOLD { (&left, &right) } else { (&right, &left) };
        assert_eq!(winner.code, SOLD, "{} {}", left.code, right.code);
        assert!(["channel_busy", "voucher_amount"].contains(&loser.code.as_str()), "{}", loser.code);
        // Its books agree with the receipt: one charge.
        channel.read(&winner.receipt);
    }
}

async fn opened(place: &Place, proxy: &impl Runner) -> Channel {
    let payer = Wallet::new(2);
    let coins = place.devnet.fund(&payer, 10 * KAS, 1).await;
    let terms = proxy.terms(Scheme::Batch).await;
    let mut channel = Channel::under(&terms, &payer, &coins, 9 * KAS);
    let said = proxy.said(0, &named(&channel.depositing(&terms))).await;
    assert_eq!(said.code, SOLD);
    channel.read(&said.receipt);
    channel
}
