//! A deposit against the offer, and every single change of it.

use super::world::*;
use crate::{
    binding::{
        escrow_v1::{
            ChannelConfig, ChannelFacts, EscrowScript, EscrowTerms, SignedVoucher, TemplateId, payload::DepositVoucher, spend::reserve,
            state::Accounts, verify::verify_deposit,
        },
        exact_v1::decode,
    },
    protocol::{
        ids::{Outpoint, P2shScript, Salt, XOnlyKey},
        network::Network,
        refusal::Code,
    },
};
use kaspa_addresses::{Address, Version};
use kaspa_consensus_core::{
    constants::MAX_TX_IN_SEQUENCE_NUM,
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{CovenantBinding, Transaction, TransactionInput, TransactionOutput},
};
use kaspa_hashes::Hash;

const DEPOSIT: u64 = 5 * KAS;
const CEILING: u64 = KAS / 100;

fn terms<'a>(pay_to: &'a str) -> EscrowTerms<'a> {
    EscrowTerms {
        server_key: x_only(SERVER),
        min_deposit: amount(KAS),
        refund_timeout_daa: TIMEOUT,
        pay_to,
        network: Network::Simnet,
        template: TemplateId::EscrowV1,
    }
}

/// A deposit for `config`, consistent in itself.
fn deposit_of(config: ChannelConfig) -> DepositVoucher {
    let script = EscrowScript::of(&config).unwrap();
    let outpoint = outpoint(7, 1);
    DepositVoucher {
        channel_id: config.channel_id(),
        escrow_address: script.address().to_string(),
        funding_transaction: None,
        funding_outpoint: outpoint,
        funding_amount_sompi: amount(DEPOSIT),
        active_script_public_key: script.serialized(),
        voucher: voucher(&script, outpoint, CEILING),
        channel_config: config,
    }
}

pub fn payload() -> DepositVoucher {
    deposit_of(config())
}

fn code(payload: &DepositVoucher) -> Option<Code> {
    let pay_to = address(PAYOUT).to_string();
    verify_deposit(payload, &terms(&pay_to), &rules()).map(drop).err().map(|fault| fault.code)
}

#[test]
fn a_deposit_by_the_offer_is_verified_and_pays_its_first_request() {
    let pay_to = address(PAYOUT).to_string();
    let verified = verify_deposit(&payload(), &terms(&pay_to), &rules()).unwrap();
    assert_eq!((verified.channel(), verified.outpoint()), (config().channel_id(), outpoint(7, 1)));
    assert_eq!(Some(verified.reserve()), reserve(&script(), amount(DEPOSIT), &rules()));
    let accounts = Accounts::opened(verified.funding());
    assert_eq!(verified.authorise(&accounts, amount(CEILING)).unwrap().authorised().voucher, amount(CEILING));
    for ceiling in [CEILING - 1, CEILING + 1] {
        assert_eq!(verified.authorise(&accounts, amount(ceiling)).unwrap_err().code, Code::VoucherAmount);
    }
    // The first voucher and the reserve must fit.
    let script = script();
    let greedy = DEPOSIT - verified.reserve().sompi() + 1;
    let all = DepositVoucher { voucher: voucher(&script, outpoint(7, 1), greedy), ..payload() };
    let verified = verify_deposit(&all, &terms(&pay_to), &rules()).unwrap();
    assert_eq!(verified.authorise(&accounts, amount(greedy)).unwrap_err().code, Code::ChannelBalance);
}

#[test]
fn each_fault_of_a_deposit_has_its_code() {
    let of = |change: &dyn Fn(&mut ChannelConfig)| {
        let mut config = config();
        change(&mut config);
        deposit_of(config)
    };
    let with = |change: &dyn Fn(&mut DepositVoucher)| {
        let mut payload = payload();
        change(&mut payload);
        payload
    };
    let script = script();
    for (name, payload, expect) in [
        ("as offered", payload(), None),
        ("a salt of one's own", of(&|c| c.salt = Salt([1; 32])), None),
        ("another refund address", of(&|c| c.refund_address = address(STRANGER).to_string()), None),
        ("another server key", of(&|c| c.server_public_key = x_only(STRANGER)), Some(Code::EscrowServerKey)),
        ("another recipient", of(&|c| c.pay_to = address(STRANGER).to_string()), Some(Code::EscrowPayTo)),
        ("an earlier timeout", of(&|c| c.refund_timeout_daa -= 1), Some(Code::EscrowTimeout)),
        ("a later timeout", of(&|c| c.refund_timeout_daa += 1), Some(Code::EscrowTimeout)),
        ("another channel id", with(&|p| p.channel_id.0[0] ^= 1), Some(Code::EscrowChannelId)),
        ("another salt, same id", with(&|p| p.channel_config.salt.0[0] ^= 1), Some(Code::EscrowChannelId)),
        ("another script", with(&|p| p.active_script_public_key = P2shScript([0; 37])), Some(Code::EscrowScript)),
        ("another address", with(&|p| p.escrow_address = address(PAYOUT).to_string()), Some(Code::EscrowAddress)),
        ("an address in capitals", with(&|p| p.escrow_address = p.escrow_address.to_uppercase()), Some(Code::EscrowAddress)),
        ("the least that is asked for", with(&|p| p.funding_amount_sompi = amount(KAS)), None),
        ("a sompi short", with(&|p| p.funding_amount_sompi = amount(KAS - 1)), Some(Code::DepositTooSmall)),
        ("a voucher of another outpoint", with(&|p| p.funding_outpoint.index = 2), Some(Code::VoucherSignature)),
        ("a voucher of another amount", with(&|p| p.voucher.amount = amount(CEILING + 1)), Some(Code::VoucherSignature)),
        (
            "a voucher by another key",
            with(&|p| p.voucher = SignedVoucher::sign(&script, p.funding_outpoint, amount(CEILING), sign(STRANGER))),
            Some(Code::VoucherSignature),
        ),
    ] {
        assert_eq!(code(&payload), expect, "{name}");
    }
    let mut elsewhere = payload();
    elsewhere.channel_config.network = Network::Testnet10;
    elsewhere.channel_id = elsewhere.channel_config.channel_id();
    assert_eq!(code(&elsewhere), Some(Code::Network));
}

#[test]
fn a_configuration_that_would_lock_money_for_ever_is_refused() {
    let check = |name: &str, change: &dyn Fn(&mut ChannelConfig)| {
        let mut config = config();
        change(&mut config);
        let payload = DepositVoucher { channel_id: config.channel_id(), channel_config: config.clone(), ..payload() };
        let terms =
            EscrowTerms { server_key: config.server_public_key, refund_timeout_daa: config.refund_timeout_daa, ..terms(&config.pay_to) };
        let found = verify_deposit(&payload, &terms, &rules()).map(drop).unwrap_err();
        assert_eq!(found.code, Code::EscrowConfig, "{name}");
    };
    let testnet = Address::new(Network::Testnet10.address_prefix(), Version::PubKey, &x_only(REFUND).0).to_string();
    check("a refund address that is none", &|c| c.refund_address = "kaspasim:q".into());
    check("a refund address of another network", &|c| c.refund_address = testnet.clone());
    check("a refund address in capitals", &|c| c.refund_address = c.refund_address.to_uppercase());
    // The last letter carries one bit of padding; with it set, the checksum of its own is right and the payload the same.
    let padded = "kaspasim:qprzw7ddf2knj52xz3635uggtuh3pcw85kf7fcpsa76msusuu4dshpf7nvw5p";
    assert_eq!(Address::try_from(padded).unwrap(), address(REFUND));
    check("a refund address in another spelling", &|c| c.refund_address = padded.into());
    check("a recipient that is none", &|c| c.pay_to = String::new());
    check("a recipient of another network", &|c| c.pay_to = testnet.clone());
    check("a timeout that is a timestamp", &|c| c.refund_timeout_daa = 500_000_000_000);
    check("a client key that is no point", &|c| c.client_public_key = XOnlyKey([0xff; 32]));
    check("a server key that is no point", &|c| c.server_public_key = XOnlyKey([0; 32]));
}

#[test]
fn a_deposit_that_no_claim_can_spend_is_too_small_whatever_the_offer_says() {
    let pay_to = address(PAYOUT).to_string();
    let terms = EscrowTerms { min_deposit: amount(1), ..terms(&pay_to) };
    let check = |sompi: u64, expect: Option<Code>| {
        let payload = DepositVoucher { funding_amount_sompi: amount(sompi), ..payload() };
        assert_eq!(verify_deposit(&payload, &terms, &rules()).map(drop).err().map(|fault| fault.code), expect, "{sompi}");
    };
    check(3_000_000, Some(Code::DepositTooSmall));
    check(KAS / 5, None);
}

/// A funding transaction and the deposit that names its output 1.
fn funded(change: impl Fn(&mut Transaction)) -> DepositVoucher {
    let script = script();
    let own = kaspa_txscript::pay_to_address_script(&address(CLIENT));
    let mut transaction = Transaction::new(
        0,
        vec![TransactionInput::new(outpoint(20, 0).into(), vec![0; 66], MAX_TX_IN_SEQUENCE_NUM, 1)],
        vec![TransactionOutput::new(KAS, own), TransactionOutput::new(DEPOSIT, script.script_public_key().clone())],
        0,
        SUBNETWORK_ID_NATIVE,
        0,
        Vec::new(),
    );
    change(&mut transaction);
    transaction.finalize();
    let outpoint = Outpoint { txid: transaction.id().into(), index: 1 };
    DepositVoucher {
        funding_transaction: Some(hex::encode(decode::encode(&transaction))),
        funding_outpoint: outpoint,
        voucher: voucher(&script, outpoint, CEILING),
        ..payload()
    }
}

#[test]
fn each_fault_of_a_funding_transaction_has_its_code() {
    let bind = |tx: &mut Transaction| {
        tx.version = 1;
        tx.inputs[0] = TransactionInput::new_with_compute_budget(tx.inputs[0].previous_outpoint, vec![0; 66], u64::MAX, 10);
        tx.outputs[1].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
    };
    for (name, payload, expect) in [
        ("as it should be", funded(|_| {}), None),
        ("an output less", funded(|tx| drop(tx.outputs.pop())), Some(Code::FundingOutpoint)),
        ("another script", funded(|tx| tx.outputs.swap(0, 1)), Some(Code::FundingScript)),
        ("a sompi less", funded(|tx| tx.outputs[1].value -= 1), Some(Code::FundingAmount)),
        ("a sompi more", funded(|tx| tx.outputs[1].value += 1), Some(Code::FundingAmount)),
        ("the same under a later script version", funded(|tx| tx.outputs[1].script_public_key.version = 1), Some(Code::FundingScript)),
        ("a covenant", funded(bind), Some(Code::DepositCovenant)),
        ("gas", funded(|tx| tx.gas = 1), Some(Code::FundingTransaction)),
        ("an unknown version", funded(|tx| tx.version = 2), Some(Code::FundingTransaction)),
        (
            "a lock time",
            funded(|tx| {
                tx.lock_time = 1;
                tx.inputs[0].sequence = 0;
            }),
            Some(Code::FundingTransaction),
        ),
        ("no inputs", funded(|tx| tx.inputs.clear()), Some(Code::FundingTransaction)),
    ] {
        assert_eq!(code(&payload), expect, "{name}");
    }
    for hex in ["", "zz", "00", &"00".repeat(70_000)] {
        let payload = DepositVoucher { funding_transaction: Some(hex.to_owned()), ..payload() };
        assert_eq!(code(&payload), Some(Code::FundingTransaction), "{} characters", hex.len());
    }
    let other = DepositVoucher { funding_transaction: funded(|_| {}).funding_transaction, ..payload() };
    assert_eq!(code(&other), Some(Code::FundingOutpoint), "another transaction's id");
    let trailing = DepositVoucher { funding_transaction: funded(|_| {}).funding_transaction.map(|hex| hex + "00"), ..funded(|_| {}) };
    assert_eq!(code(&trailing), Some(Code::FundingTransaction), "trailing bytes");
}

#[test]
fn the_id_inside_a_funding_transaction_is_not_believed() {
    let honest = funded(|_| {});
    let pay_to = address(PAYOUT).to_string();
    let mut transaction = decode::decode(honest.funding_transaction.as_deref().unwrap()).unwrap();
    let id = transaction.id();
    // The encoding carries the id of before the change.
    transaction.outputs[0].value += 1;
    assert_eq!(transaction.id(), id);
    let forged = DepositVoucher { funding_transaction: Some(hex::encode(decode::encode(&transaction))), ..honest.clone() };
    assert_eq!(code(&forged), Some(Code::FundingOutpoint));
    let verified = verify_deposit(&honest, &terms(&pay_to), &rules()).unwrap();
    assert_eq!(verified.transaction().map(Transaction::id), Some(id));
}

#[test]
fn a_deposit_sent_again_proves_the_key_of_its_channel() {
    let pay_to = address(PAYOUT).to_string();
    let verified = verify_deposit(&payload(), &terms(&pay_to), &rules()).unwrap();
    let script = script();
    let facts = ChannelFacts { id: config().channel_id(), script: &script, outpoint: outpoint(7, 1), previous: None };
    assert!(verified.proven(facts).unwrap().is_current());
    let later = ChannelFacts { outpoint: outpoint(8, 1), previous: Some(outpoint(7, 1)), ..facts };
    assert!(!verified.proven(later).unwrap().is_current());
    let gone = ChannelFacts { outpoint: outpoint(9, 1), previous: Some(outpoint(8, 1)), ..facts };
    assert_eq!(verified.proven(gone).unwrap_err().code, Code::ChannelUnknown);
    let mut id = facts.id;
    id.0[0] ^= 1;
    assert_eq!(verified.proven(ChannelFacts { id, ..facts }).unwrap_err().code, Code::ChannelUnknown);
}
