//! A voucher against the record of its channel.

use super::world::*;
use crate::{
    binding::escrow_v1::{
        ChannelFacts, SignedVoucher,
        payload::ChannelVoucher,
        state::{Accounts, Authorised, Idle},
        verify::{channel_unknown, prove},
    },
    protocol::{ids::P2shScript, refusal::Code},
};

const CEILING: u64 = KAS / 100;

pub fn payload(sompi: u64) -> ChannelVoucher {
    let script = script();
    ChannelVoucher {
        channel_id: config().channel_id(),
        client_public_key: x_only(CLIENT),
        funding_outpoint: outpoint(7, 1),
        active_script_public_key: script.serialized(),
        voucher: voucher(&script, outpoint(7, 1), sompi),
    }
}

/// The accounts of 10 KAS with half a ceiling charged.
fn accounts() -> Accounts {
    let by = Authorised { voucher: amount(CEILING), ceiling: amount(CEILING), reserve: amount(2_000_000) };
    *Idle::opened(amount(10 * KAS)).charge(by, amount(CEILING / 2)).unwrap().accounts()
}

#[test]
fn a_voucher_of_the_right_amount_pays() {
    let script = script();
    let facts = ChannelFacts { id: config().channel_id(), script: &script, outpoint: outpoint(7, 1), previous: Some(outpoint(6, 0)) };
    let due = CEILING / 2 + CEILING;
    let check = |sompi: u64, ceiling: u64, expect: Result<u64, Code>| {
        let proven = prove(&payload(sompi), facts).unwrap();
        let found = proven.authorise(&accounts(), amount(ceiling), amount(2_000_000));
        assert_eq!(found.map(|v| v.authorised().voucher.sompi()).map_err(|fault| fault.code), expect, "{sompi} for {ceiling}");
    };
    check(due, CEILING, Ok(due));
    check(due + 1, CEILING, Err(Code::VoucherAmount));
    check(due - 1, CEILING, Err(Code::VoucherAmount));
    // A dearer voucher was signed already; a cheap request is paid by it as it is.
    check(CEILING, CEILING / 4, Ok(CEILING));
    check(CEILING / 2 + CEILING / 4, CEILING / 4, Err(Code::VoucherAmount));
    check(10 * KAS, 10 * KAS - CEILING / 2, Err(Code::ChannelBalance));
}

#[test]
fn who_does_not_hold_the_key_learns_nothing() {
    let script = script();
    let facts = ChannelFacts { id: config().channel_id(), script: &script, outpoint: outpoint(7, 1), previous: Some(outpoint(6, 0)) };
    let check = |name: &str, change: &dyn Fn(&mut ChannelVoucher)| {
        let mut payload = payload(CEILING);
        change(&mut payload);
        assert_eq!(prove(&payload, facts).map(drop).unwrap_err(), channel_unknown(), "{name}");
    };
    check("another channel", &|p| p.channel_id.0[0] ^= 1);
    check("an outpoint that never was", &|p| p.funding_outpoint = outpoint(9, 9));
    check("an outpoint that never was, signed", &|p| {
        p.funding_outpoint = outpoint(9, 9);
        p.voucher = voucher(&script, p.funding_outpoint, CEILING);
    });
    check("another amount", &|p| p.voucher.amount = amount(CEILING + 1));
    check("another signature", &|p| p.voucher.signature.0[63] ^= 1);
    check("the previous outpoint with the active one's voucher", &|p| p.funding_outpoint = outpoint(6, 0));
    check("another key", &|p| p.voucher = SignedVoucher::sign(&script, p.funding_outpoint, amount(CEILING), sign(SERVER)));
}

#[test]
fn what_the_key_holder_gets_wrong_is_named() {
    let script = script();
    let facts = ChannelFacts { id: config().channel_id(), script: &script, outpoint: outpoint(7, 1), previous: Some(outpoint(6, 0)) };
    let other_key = ChannelVoucher { client_public_key: x_only(STRANGER), ..payload(CEILING) };
    assert_eq!(prove(&other_key, facts).map(drop).unwrap_err().code, Code::EscrowClientKey);
    let other_script = ChannelVoucher { active_script_public_key: P2shScript([0; 37]), ..payload(CEILING) };
    assert_eq!(prove(&other_script, facts).map(drop).unwrap_err().code, Code::EscrowScript);
    let previous = outpoint(6, 0);
    let stale = ChannelVoucher { funding_outpoint: previous, voucher: voucher(&script, previous, CEILING), ..payload(CEILING) };
    let proven = prove(&stale, facts).unwrap();
    assert!(!proven.is_current());
    assert_eq!(proven.authorise(&accounts(), amount(CEILING), amount(0)).unwrap_err().code, Code::VoucherStaleOutpoint);
}
