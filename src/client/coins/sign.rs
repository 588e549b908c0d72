//! From a plan to the signed transaction.

use super::{Plan, select::unsigned};
use crate::{
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        ids::{Outpoint, TxId},
    },
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    tx::{PopulatedTransaction, Transaction, TransactionOutput, UtxoEntry},
};
use rand::RngCore;

/// A payment that only needs to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPayment {
    pub transaction: Transaction,
    pub txid: TxId,
    /// The output that pays; always the first.
    pub payment_output_index: u32,
    pub inputs: Vec<Outpoint>,
    pub amount: Amount,
    pub fee: Amount,
}

impl Plan {
    /// The transaction, before it is signed; its id is final, since ids do not cover signatures.
    pub fn transaction(&self) -> Transaction {
        let payment = TransactionOutput::new(self.amount.sompi(), self.pay_to.clone());
        let change = self.change.map(|change| TransactionOutput::new(change.sompi(), self.own.clone()));
        unsigned(&self.inputs, [Some(payment), change].into_iter().flatten().collect(), self.storage_mass)
    }

    /// Signs every input with the wallet's key (SIGHASH_ALL); `rng` only hardens the nonces.
    pub fn sign(&self, wallet: &Wallet, rng: &mut dyn RngCore) -> SignedPayment {
        let mut transaction = self.transaction();
        let entries =
            self.inputs.iter().map(|coin| UtxoEntry::new(coin.amount.sompi(), self.own.clone(), coin.daa_score, coin.is_coinbase, None));
        let populated = PopulatedTransaction::new(&transaction, entries.collect());
        let reused = SigHashReusedValuesUnsync::new();
        let scripts: Vec<Vec<u8>> = (0..self.inputs.len()).map(|index| sign_input(wallet, &populated, index, &reused, rng)).collect();
        for (input, script) in transaction.inputs.iter_mut().zip(scripts) {
            input.signature_script = script;
        }
        SignedPayment {
            txid: transaction.id().into(),
            transaction,
            payment_output_index: 0,
            inputs: self.inputs.iter().map(|coin| coin.outpoint).collect(),
            amount: self.amount,
            fee: self.fee,
        }
    }
}

/// The signature script of one of the wallet's own inputs (SIGHASH_ALL).
pub fn sign_input(
    wallet: &Wallet,
    populated: &PopulatedTransaction<'_>,
    index: usize,
    reused: &SigHashReusedValuesUnsync,
    rng: &mut dyn RngCore,
) -> Vec<u8> {
    let digest = calc_schnorr_signature_hash(populated, index, SIG_HASH_ALL, reused).as_bytes();
    let mut aux = [0; 32];
    rng.fill_bytes(&mut aux);
    // One push of 65 bytes: the signature, then its sighash type.
    [&[65], &wallet.sign_digest(&digest, &aux)[..], &[SIG_HASH_ALL.to_u8()]].concat()
}
