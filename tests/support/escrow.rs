//! Escrow channels by hand: their keys, their money, and what may be done with it, by the rules or against them.
#![allow(dead_code)]

use super::devnet::{Coin, Devnet, Wallet};
use kas402::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, SignedVoucher, TemplateId,
        spend::{Escrow, SignedClaim, SpendRules, plan_claim, plan_refund},
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, Salt, XOnlyKey},
        network::Network,
        requirements::Asset,
    },
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    tx::{PopulatedTransaction, Transaction, TransactionInput, TransactionOutput, UtxoEntry},
};
use secp256k1::{Keypair, Message, SECP256K1};

pub fn amount(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

pub fn sign(keypair: &Keypair) -> impl Fn(&[u8; 32]) -> [u8; 64] + '_ {
    move |digest| SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), keypair).serialize()
}

fn x_only(wallet: &Wallet) -> XOnlyKey {
    XOnlyKey(wallet.keypair.x_only_public_key().0.serialize())
}

pub fn rules() -> SpendRules {
    SpendRules::of(Network::Simnet)
}

/// One channel with the keys of both sides.
pub struct Channel {
    pub config: ChannelConfig,
    pub script: EscrowScript,
    pub client: Wallet,
    pub server: Wallet,
    pub payout: Wallet,
    pub refund: Wallet,
}

/// An escrow on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub outpoint: Outpoint,
    pub sompi: u64,
}

impl Channel {
    /// Another channel for another seed (not 0), all keys but the server's its own.
    pub fn new(seed: u8, timeout: u64) -> Self {
        let (client, server) = (Wallet::new(seed), Wallet::new(240));
        let (payout, refund) = (Wallet::new(seed.checked_add(40).unwrap()), Wallet::new(seed.checked_add(80).unwrap()));
        let config = ChannelConfig {
            network: Network::Simnet,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: x_only(&client),
            server_public_key: x_only(&server),
            pay_to: payout.address().to_string(),
            refund_address: refund.address().to_string(),
            refund_timeout_daa: timeout,
            salt: Salt([seed; 32]),
        };
        let script = EscrowScript::of(&config).unwrap();
        Self { config, script, client, server, payout, refund }
    }

    /// A transaction that makes `count` escrows of `sompi`, not sent.
    pub fn funding(&self, payer: &Wallet, coins: &[Coin], sompi: u64, count: usize) -> (Transaction, Vec<Held>) {
        let output = TransactionOutput::new(sompi, self.script.script_public_key().clone());
        let transaction = payer.build(coins, vec![output; count], 100);
        let held = |index| Held { outpoint: Outpoint { txid: transaction.id().into(), index }, sompi };
        let held = (0..u32::try_from(count).unwrap()).map(held).collect();
        (transaction, held)
    }

    /// `count` escrows of `sompi` on the chain, from the faucet's money.
    pub async fn fund(&self, net: &Devnet, sompi: u64, count: usize) -> Vec<Held> {
        let payer = Wallet::new(239);
        let coins = net.fund(&payer, sompi * u64::try_from(count).unwrap() + super::devnet::KAS, 1).await;
        let (transaction, held) = self.funding(&payer, &coins, sompi, count);
        net.submit(0, &transaction).await.unwrap();
        net.mine(0, 2).await;
        held
    }

    pub fn escrow(&self, held: Held) -> Escrow<'_> {
        Escrow { script: &self.script, outpoint: held.outpoint, funding: amount(held.sompi) }
    }

    pub fn voucher(&self, outpoint: Outpoint, sompi: u64) -> SignedVoucher {
        SignedVoucher::sign(&self.script, outpoint, amount(sompi), sign(&self.client.keypair))
    }

    /// A claim with any voucher, also one that is not worth it.
    pub fn claim_with(&self, held: Held, takes: u64, voucher: &SignedVoucher) -> SignedClaim {
        let plan = plan_claim(self.escrow(held), amount(takes), &rules()).unwrap();
        plan.sign(self.escrow(held), voucher, sign(&self.server.keypair)).unwrap()
    }

    /// A claim of all that its voucher allows.
    pub fn claim(&self, held: Held, takes: u64) -> SignedClaim {
        self.claim_with(held, takes, &self.voucher(held.outpoint, takes))
    }

    /// The same with a fee of `fee`.
    pub fn claim_paying(&self, held: Held, takes: u64, fee: u64) -> SignedClaim {
        let plan = plan_claim(self.escrow(held), amount(takes), &rules().with_least_fee(amount(fee))).unwrap();
        plan.sign(self.escrow(held), &self.voucher(held.outpoint, takes), sign(&self.server.keypair)).unwrap()
    }

    pub fn refund(&self, held: Held) -> Transaction {
        plan_refund(self.escrow(held), &rules()).unwrap().sign(self.escrow(held), sign(&self.client.keypair)).1
    }

    /// Adds a coin that pays whatever the change costs, and signs everything again.
    pub fn doctored(
        &self,
        transaction: &Transaction,
        held: Held,
        by: &Wallet,
        fee: (&Wallet, &Coin),
        change: &dyn Fn(&mut Transaction),
    ) -> Transaction {
        let (owner, coin) = fee;
        let mut changed = transaction.clone();
        changed.inputs.push(TransactionInput::new_with_compute_budget(coin.outpoint, vec![0; 66], 0, 10));
        change(&mut changed);
        let entry = UtxoEntry::new(held.sompi, self.script.script_public_key().clone(), 0, false, None);
        let entries = vec![entry, coin.entry.clone()];
        let escrow = spend_signature(&changed, &entries, 0, by);
        changed.inputs[0].signature_script[..escrow.len()].copy_from_slice(&escrow);
        changed.inputs[1].signature_script = spend_signature(&changed, &entries, 1, owner);
        // The node commits to the storage mass of what is submitted.
        changed.set_storage_mass(0);
        changed.finalize();
        changed
    }
}

/// One push: the signature of everything, and its type.
fn spend_signature(transaction: &Transaction, entries: &[UtxoEntry], index: usize, by: &Wallet) -> Vec<u8> {
    let populated = PopulatedTransaction::new(transaction, entries.to_vec());
    let digest = calc_schnorr_signature_hash(&populated, index, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes();
    [&[65][..], &sign(&by.keypair)(&digest), &[SIG_HASH_ALL.to_u8()]].concat()
}
