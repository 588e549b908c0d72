//! One channel, its keys, and the node's script engine.

use crate::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, SignedVoucher, TemplateId,
        spend::{Escrow, SpendRules},
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, Salt, TxId, XOnlyKey},
        network::Network,
        requirements::Asset,
    },
};
use kaspa_addresses::{Address, Version};
use kaspa_consensus_core::{
    config::params::Params,
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::{SIG_HASH_ALL, SigHashType},
    },
    mass::MassCalculator,
    tx::{PopulatedTransaction, Transaction, UtxoEntry, VerifiableTransaction},
};
use kaspa_txscript::{EngineCtx, TxScriptEngine, caches::Cache, covenants::CovenantsContext, pay_to_address_script};
use secp256k1::{Keypair, Message, SECP256K1};

pub const KAS: u64 = 100_000_000;
pub const TIMEOUT: u64 = 500_000;

pub fn amount(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

/// The keys of client, server, payout and refund; any other number is a stranger's.
pub fn key(number: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[number; 32]).unwrap()
}

pub const CLIENT: u8 = 1;
pub const SERVER: u8 = 2;
pub const PAYOUT: u8 = 3;
pub const REFUND: u8 = 4;
pub const STRANGER: u8 = 5;

pub fn x_only(number: u8) -> XOnlyKey {
    XOnlyKey(key(number).x_only_public_key().0.serialize())
}

pub fn sign(number: u8) -> impl Fn(&[u8; 32]) -> [u8; 64] {
    move |digest| SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), &key(number)).serialize()
}

pub fn address(number: u8) -> Address {
    Address::new(Network::Simnet.address_prefix(), Version::PubKey, &x_only(number).0)
}

pub fn config() -> ChannelConfig {
    ChannelConfig {
        network: Network::Simnet,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: x_only(CLIENT),
        server_public_key: x_only(SERVER),
        pay_to: address(PAYOUT).to_string(),
        refund_address: address(REFUND).to_string(),
        refund_timeout_daa: TIMEOUT,
        salt: Salt([9; 32]),
    }
}

pub fn script() -> EscrowScript {
    EscrowScript::of(&config()).unwrap()
}

pub fn outpoint(byte: u8, index: u32) -> Outpoint {
    Outpoint { txid: TxId([byte; 32]), index }
}

pub fn escrow(script: &EscrowScript, funding: u64) -> Escrow<'_> {
    Escrow { script, outpoint: outpoint(7, 1), funding: amount(funding) }
}

pub fn voucher(script: &EscrowScript, outpoint: Outpoint, sompi: u64) -> SignedVoucher {
    SignedVoucher::sign(script, outpoint, amount(sompi), sign(CLIENT))
}

pub fn rules() -> SpendRules {
    SpendRules::of(Network::Simnet)
}

pub fn locked(script: &EscrowScript, sompi: u64) -> UtxoEntry {
    UtxoEntry::new(sompi, script.script_public_key().clone(), 0, false, None)
}

pub fn owned(number: u8, sompi: u64) -> UtxoEntry {
    UtxoEntry::new(sompi, pay_to_address_script(&address(number)), 0, false, None)
}

/// `41 <signature> <type>` over the given input.
pub fn spend_signature(transaction: &Transaction, entries: &[UtxoEntry], index: usize, number: u8, kind: SigHashType) -> Vec<u8> {
    let populated = PopulatedTransaction::new(transaction, entries.to_vec());
    let digest = calc_schnorr_signature_hash(&populated, index, kind, &SigHashReusedValuesUnsync::new()).as_bytes();
    [&[65][..], &sign(number)(&digest), &[kind.to_u8()]].concat()
}

/// Signs an input as its owner.
pub fn sign_input(transaction: &mut Transaction, entries: &[UtxoEntry], index: usize, number: u8) {
    transaction.inputs[index].signature_script = spend_signature(transaction, entries, index, number, SIG_HASH_ALL);
}

/// Replaces the first signature of an escrow's witness after the transaction was changed.
pub fn resign(transaction: &mut Transaction, entries: &[UtxoEntry], number: u8) {
    let signature = spend_signature(transaction, entries, 0, number, SIG_HASH_ALL);
    transaction.inputs[0].signature_script[..signature.len()].copy_from_slice(&signature);
}

/// Runs every input's script as the node does, compute budgets included.
pub fn execute(transaction: &Transaction, entries: &[UtxoEntry]) -> Result<(), String> {
    let populated = PopulatedTransaction::new(transaction, entries.to_vec());
    let covenants = CovenantsContext::from_tx(&populated).map_err(|error| error.to_string())?;
    let (cache, reused) = (Cache::new(0), SigHashReusedValuesUnsync::new());
    let context = EngineCtx::new(&cache).with_reused(&reused).with_covenants_ctx(&covenants);
    for (index, (input, entry)) in populated.populated_inputs().enumerate() {
        let limit = input.compute_commit.allowed_script_units();
        TxScriptEngine::from_transaction_input_with_script_units_limit(&populated, input, index, entry, context, Default::default(), limit)
            .execute()
            .map_err(|error| format!("input {index}: {error}"))?;
    }
    Ok(())
}

/// What the node checks besides scripts: sums, the mass commitment, limits, the relay fee. Gives the fee.
pub fn audit(transaction: &Transaction, entries: &[UtxoEntry]) -> u64 {
    let params = Params::from(Network::Simnet.id());
    let calculator = MassCalculator::new_with_consensus_params(&params);
    let populated = PopulatedTransaction::new(transaction, entries.to_vec());
    let storage = calculator.calc_contextual_masses(&populated).expect("computable").storage_mass;
    assert_eq!(transaction.storage_mass(), storage, "the commitment is exact");
    assert!(storage <= params.block_mass_limits.storage, "{storage}");
    let masses = calculator.calc_non_contextual_masses(transaction);
    let inputs: u64 = entries.iter().map(|entry| entry.amount).sum();
    let fee = inputs - transaction.outputs.iter().map(|output| output.value).sum::<u64>();
    let least = masses.normalized_max(&params.block_mass_limits.cofactors()) * 100;
    assert!(fee >= least, "a fee of {fee} is less than {least}");
    execute(transaction, entries).unwrap();
    fee
}
