//! The four payloads on the wire, and every fault of a field.

use super::{deposits, vouchers, world::*};
use crate::{
    binding::escrow_v1::payload::{BatchPayload, ChannelVoucher, TypedVoucher, parse},
    protocol::refusal::Code,
};
use serde_json::{Value, json};

fn deposit() -> Value {
    let deposit = deposits::payload();
    let mut value = serde_json::to_value(BatchPayload::DepositVoucher(Box::new(deposit))).unwrap();
    value["fundingTransaction"] = json!("00");
    value
}

fn claim() -> Value {
    let script = script();
    let escrow = escrow(&script, KAS);
    json!({
        "type": "claim", "channelId": config().channel_id(), "fundingOutpoint": escrow.outpoint,
        "activeScriptPublicKey": script.serialized(), "claimAmount": "5", "voucher": voucher(&script, escrow.outpoint, 7),
    })
}

fn refund() -> Value {
    let mut refund = claim();
    refund["type"] = json!("refund");
    refund.as_object_mut().unwrap().remove("claimAmount");
    refund["refundAddress"] = json!(address(REFUND).to_string());
    refund["refundAmount"] = json!("5");
    refund
}

fn code(payload: &Value) -> Option<Code> {
    parse(payload.as_object().unwrap().clone()).err().map(|fault| fault.code)
}

#[test]
fn payloads_are_emitted_as_they_are_read() {
    let voucher = serde_json::to_value(BatchPayload::Voucher(Box::new(vouchers::payload(KAS)))).unwrap();
    assert_eq!(voucher["type"], "voucher");
    for payload in [deposit(), voucher, claim(), refund()] {
        let parsed = parse(payload.as_object().unwrap().clone()).unwrap_or_else(|fault| panic!("{payload}: {fault:?}"));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), payload);
        let allowed = matches!(parsed, BatchPayload::DepositVoucher(_) | BatchPayload::Voucher(_));
        assert_eq!(parsed.on_route().err().map(|fault| fault.code), (!allowed).then_some(Code::PaymentTypeNotAllowed));
    }
}

#[test]
fn a_voucher_is_the_same_with_and_without_a_tree() {
    let good = serde_json::to_value(BatchPayload::Voucher(Box::new(vouchers::payload(KAS)))).unwrap();
    let mut cases = vec![good.clone(), deposit(), claim(), refund(), json!({})];
    for name in good.as_object().unwrap().keys() {
        let without = good.as_object().unwrap().iter().filter(|(other, _)| *other != name);
        cases.push(without.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into());
        for value in [json!(null), json!(1), json!("claim"), json!("00"), json!({})] {
            let mut changed = good.clone();
            changed[name] = value;
            cases.push(changed);
        }
    }
    let mut more = good.clone();
    more["more"] = json!(1);
    cases.push(more);
    for payload in cases {
        let voucher = match parse(payload.as_object().unwrap().clone()) {
            Ok(BatchPayload::Voucher(voucher)) => Some(*voucher),
            _ => None,
        };
        let typed = serde_json::from_str::<TypedVoucher>(&payload.to_string()).ok();
        assert_eq!(typed.map(ChannelVoucher::from), voucher, "{payload}");
        assert_eq!(voucher.is_some(), payload == good, "{payload}");
    }
}

#[test]
fn hex_is_read_in_either_case_and_emitted_lower() {
    let mut payload = deposit();
    let upper = |value: &mut Value| *value = json!(value.as_str().unwrap().to_uppercase());
    for pointer in ["/channelId", "/activeScriptPublicKey", "/voucher/signature", "/fundingOutpoint/txid", "/channelConfig/salt"] {
        upper(payload.pointer_mut(pointer).unwrap());
    }
    let parsed = parse(payload.as_object().unwrap().clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), deposit());
}

/// A field and values that it must not take.
type Field<'a> = (&'a str, &'a [Value]);

#[test]
fn every_field_is_required_typed_and_of_its_width_and_no_other_is_read() {
    // A field, and values that must not parse. Optional fields may be missing.
    let hex32 = [json!("ab"), json!("zz".repeat(32)), json!("ab".repeat(33)), json!(1), json!(null)];
    let decimal = [json!("01"), json!("-1"), json!("1.5"), json!(""), json!(1), json!("2900000000000000001"), json!(null)];
    let number = [json!("1"), json!(-1), json!(4_294_967_296u64), json!(1.5)];
    let script = [json!("ab".repeat(36)), json!("ab".repeat(38)), json!(1)];
    let text = [json!(1), json!(null)];
    let common: [Field<'_>; 9] = [
        ("/channelId", &hex32),
        ("/fundingOutpoint", &text),
        ("/fundingOutpoint/txid", &hex32),
        ("/fundingOutpoint/index", &number),
        ("/activeScriptPublicKey", &script),
        ("/voucher", &text),
        ("/voucher/amount", &decimal),
        ("/voucher/signature", &hex32),
        ("/type", &text),
    ];
    let of_deposit: [Field<'_>; 12] = [
        ("/channelConfig", &text),
        ("/channelConfig/network", &[json!("kaspa:testnet-11"), json!("simnet")]),
        ("/channelConfig/asset", &[json!("kas"), json!("BTC")]),
        ("/channelConfig/templateId", &[json!("kaspa-x402-escrow-v2")]),
        ("/channelConfig/clientPublicKey", &hex32),
        ("/channelConfig/serverPublicKey", &hex32),
        ("/channelConfig/payTo", &text),
        ("/channelConfig/refundAddress", &text),
        ("/channelConfig/refundTimeoutDaa", &[json!(5), json!("05"), json!("18446744073709551616")]),
        ("/channelConfig/salt", &hex32),
        ("/escrowAddress", &text),
        ("/fundingAmountSompi", &decimal),
    ];
    let voucher = serde_json::to_value(BatchPayload::Voucher(Box::new(vouchers::payload(KAS)))).unwrap();
    let shapes: [(Value, &[Field<'_>]); 4] = [
        (deposit(), &of_deposit),
        (voucher, &[("/clientPublicKey", &hex32)]),
        (claim(), &[("/claimAmount", &decimal)]),
        (refund(), &[("/refundAmount", &decimal), ("/refundAddress", &text)]),
    ];
    for (valid, own) in shapes {
        assert_eq!(code(&valid), None, "{valid}");
        for (pointer, values) in common.iter().chain(own) {
            for value in *values {
                let mut payload = valid.clone();
                *payload.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
                assert_eq!(code(&payload), Some(Code::HeaderSchema), "{pointer} = {value}");
            }
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut payload = valid.clone();
            let object = |payload: &mut Value| payload.pointer_mut(parent).unwrap().as_object_mut().unwrap().clone();
            let mut without = object(&mut payload);
            without.remove(name);
            *payload.pointer_mut(parent).unwrap() = Value::Object(without.clone());
            assert_eq!(code(&payload), Some(Code::HeaderSchema), "without {pointer}");
            without.insert(name.to_owned(), valid.pointer(pointer).unwrap().clone());
            without.insert("more".into(), json!(1));
            *payload.pointer_mut(parent).unwrap() = Value::Object(without);
            assert_eq!(code(&payload), Some(Code::HeaderSchema), "an unknown field beside {pointer}");
        }
    }
    let mut without = deposit();
    without.as_object_mut().unwrap().remove("fundingTransaction");
    assert_eq!(code(&without), None, "the client may have broadcast it");
    for kind in ["exact-transfer", "Voucher", "deposit_voucher", "batch", ""] {
        let mut payload = claim();
        payload["type"] = json!(kind);
        assert_eq!(code(&payload), Some(Code::PayloadType), "{kind}");
    }
}
