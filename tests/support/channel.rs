//! Paying from a channel by hand: the client's own books, honest unless a test wants otherwise.
#![allow(dead_code)]

use super::{
    devnet::{Coin, Devnet, KAS, Wallet},
    gateway::Gateway,
    pay::{Answer, Ask, encode},
};
use kas402::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, SignedVoucher, TemplateId,
        payload::{BatchPayload, ChannelVoucher, DepositVoucher},
        spend::{Coin as Added, Escrow, SpendRules, plan_refund, plan_top_up},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, Salt, XOnlyKey},
        network::Network,
        requirements::Asset,
    },
    wire::identifier,
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    tx::{PopulatedTransaction, Transaction, TransactionOutput},
};
use secp256k1::{Keypair, Message, SECP256K1};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// What channels of the tests may do: seconds instead of days. A score of the chain is a tenth of a second.
pub const SETTINGS: &str = "keys: {offer: {file: offer.keys}, server: {file: server.keys}}
channels:
  refund_horizon_seconds: 3600
  refund_epoch_seconds: 1
  refund_lead_seconds: 60
  confirmations: 2
  claims: {automatic: false}
limits: {final_depth: 100}";

/// `SETTINGS` with other lines under `channels:`.
pub fn settings(horizon: u64, lead: u64, claims: &str) -> String {
    SETTINGS
        .replace("refund_horizon_seconds: 3600", &format!("refund_horizon_seconds: {horizon}"))
        .replace("refund_lead_seconds: 60", &format!("refund_lead_seconds: {lead}"))
        .replace("claims: {automatic: false}", &format!("claims: {claims}"))
}

/// Longest time that a test waits for a channel's money.
const PATIENCE: Duration = Duration::from_secs(60);

static DRAWN: AtomicU64 = AtomicU64::new(1);

fn drawn() -> u64 {
    DRAWN.fetch_add(1, Ordering::SeqCst)
}

fn sompi(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

pub fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("not a number: {value}")).parse().unwrap()
}

fn sign(keypair: &Keypair, digest: &[u8; 32]) -> [u8; 64] {
    SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), keypair).serialize()
}

/// The batch way to pay.
pub fn batch_of(answer: &Answer) -> Value {
    let required = answer.required().unwrap_or_else(|| panic!("no offer: {answer:?}"));
    let accepts = required["accepts"].as_array().unwrap();
    accepts.iter().find(|entry| entry["scheme"] == "batch-settlement").expect("a batch offer").clone()
}

/// One channel and the client's books.
#[derive(Clone)]
pub struct Channel {
    pub keypair: Keypair,
    pub config: ChannelConfig,
    pub script: EscrowScript,
    pub deposit: Transaction,
    pub outpoint: Outpoint,
    pub funding: u64,
    pub charged: u64,
    pub claimed: u64,
    pub signed: u64,
    /// The offer for the next request.
    pub renewed: Option<Value>,
}

impl Channel {
    /// Under an offer, from a coin of the wallet; nothing is sent.
    pub fn under(accepted: &Value, wallet: &Wallet, coins: &[Coin], funding: u64) -> Self {
        Self::paid_by(wallet, accepted, wallet, coins, funding)
    }

    /// The same for another wallet's coins.
    pub fn paid_by(payer: &Wallet, accepted: &Value, wallet: &Wallet, coins: &[Coin], funding: u64) -> Self {
        let extra = &accepted["extra"];
        let mut salt = [0; 32];
        salt[..8].copy_from_slice(&drawn().to_be_bytes());
        let config = ChannelConfig {
            network: Network::Simnet,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: XOnlyKey(wallet.keypair.x_only_public_key().0.serialize()),
            server_public_key: extra["serverPublicKey"].as_str().unwrap().parse().unwrap(),
            pay_to: accepted["payTo"].as_str().unwrap().into(),
            refund_address: wallet.address().to_string(),
            refund_timeout_daa: number(&extra["refundTimeoutDaa"]),
            salt: Salt(salt),
        };
        let script = EscrowScript::of(&config).unwrap();
        let deposit = payer.pay(coins, script.script_public_key(), funding);
        let outpoint = Outpoint { txid: deposit.id().into(), index: 0 };
        Self { keypair: wallet.keypair, config, script, deposit, outpoint, funding, charged: 0, claimed: 0, signed: 0, renewed: None }
    }

    /// Funds a wallet and makes a channel of most of it.
    pub async fn prepare(net: &Devnet, ask: &Ask, url: &str, wallet: &Wallet, funding: u64) -> (Self, Value) {
        let coins = net.fund(wallet, funding + KAS, 1).await;
        let accepted = batch_of(&ask.send(url, None).await);
        (Self::under(&accepted, wallet, &coins, funding), accepted)
    }

    /// Opens a channel with its first request.
    pub async fn open(net: &Devnet, ask: &Ask, gateway: &Gateway, wallet: &Wallet, funding: u64) -> Self {
        let (mut channel, accepted) = Self::prepare(net, ask, &gateway.url(), wallet, funding).await;
        let header = channel.depositing(&accepted);
        let answer = until_answered(ask, gateway, &header).await;
        channel.served(&answer);
        channel
    }

    pub fn id(&self) -> ChannelId {
        self.config.channel_id()
    }

    pub fn active(&self) -> u64 {
        self.charged - self.claimed
    }

    pub fn escrow(&self) -> Escrow<'_> {
        Escrow { script: &self.script, outpoint: self.outpoint, funding: sompi(self.funding) }
    }

    pub fn sign(&self, outpoint: Outpoint, amount: u64) -> SignedVoucher {
        SignedVoucher::sign(&self.script, outpoint, sompi(amount), |digest| sign(&self.keypair, digest))
    }

    /// The header that opens the channel and pays a request.
    pub fn depositing(&self, accepted: &Value) -> String {
        let ceiling = number(&accepted["amount"]);
        message(accepted, &self.deposit_payload(Some(&self.deposit), self.outpoint, self.funding, ceiling), &new_identifier())
    }

    pub fn deposit_payload(&self, transaction: Option<&Transaction>, outpoint: Outpoint, funding: u64, voucher: u64) -> Value {
        let payload = DepositVoucher {
            channel_config: self.config.clone(),
            channel_id: self.id(),
            escrow_address: self.script.address().to_string(),
            funding_transaction: transaction.map(|transaction| hex::encode(borsh::to_vec(transaction).unwrap())),
            funding_outpoint: outpoint,
            funding_amount_sompi: sompi(funding),
            active_script_public_key: self.script.serialized(),
            voucher: self.sign(outpoint, voucher),
        };
        serde_json::to_value(BatchPayload::DepositVoucher(Box::new(payload))).unwrap()
    }

    /// The header of the next request under this offer.
    pub fn paying(&self, accepted: &Value) -> String {
        let voucher = self.signed.max(self.active() + number(&accepted["amount"]));
        self.paying_exactly(accepted, voucher, &new_identifier())
    }

    pub fn paying_exactly(&self, accepted: &Value, voucher: u64, identifier: &str) -> String {
        let payload = BatchPayload::Voucher(Box::new(ChannelVoucher {
            channel_id: self.id(),
            client_public_key: self.config.client_public_key,
            funding_outpoint: self.outpoint,
            active_script_public_key: self.script.serialized(),
            voucher: self.sign(self.outpoint, voucher),
        }));
        message(accepted, &serde_json::to_value(payload).unwrap(), identifier)
    }

    /// An offer for the next request: the renewed one, or a new one.
    pub async fn offer(&mut self, ask: &Ask, url: &str) -> Value {
        match self.renewed.take() {
            Some(offer) => offer,
            None => batch_of(&ask.send(url, None).await),
        }
    }

    /// Pays one request.
    pub async fn buy(&mut self, ask: &Ask, url: &str) -> Answer {
        let accepted = self.offer(ask, url).await;
        let answer = ask.send(url, Some(&self.paying(&accepted))).await;
        self.served(&answer);
        answer
    }

    /// Reads the receipt of a served request into the books, which must agree with it.
    #[track_caller]
    pub fn served(&mut self, answer: &Answer) -> u64 {
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
        let receipt = answer.receipt().expect("a receipt");
        assert_eq!(receipt["success"], true, "{receipt}");
        self.read(&receipt)
    }

    #[track_caller]
    pub fn read(&mut self, receipt: &Value) -> u64 {
        let kaspa = &receipt["extensions"]["kaspa"];
        let charge = number(&kaspa["chargedAmount"]);
        self.charged += charge;
        let state = &kaspa["channelState"];
        assert_eq!(number(&state["chargedCumulativeAmount"]), self.charged, "{state}");
        assert_eq!(number(&state["claimedCumulativeAmount"]), self.claimed, "{state}");
        assert_eq!(number(&state["fundingAmount"]), self.funding, "{state}");
        self.signed = number(&state["signedMaxClaimable"]);
        self.renewed = Some(kaspa["offer"].clone()).filter(|offer| !offer.is_null());
        charge
    }

    /// Follows a claim that a correction tells of, if it took no more than is owed.
    #[track_caller]
    pub fn follow(&mut self, correction: &Answer) -> Value {
        let offer = batch_of(correction);
        let state = &offer["extra"]["channelState"];
        assert!(state.is_object(), "{correction:?} {}", correction.text());
        let claimed = number(&state["claimedCumulativeAmount"]);
        assert!(claimed <= self.charged, "{state}");
        self.funding -= claimed - self.claimed;
        assert_eq!(number(&state["fundingAmount"]), self.funding, "{state}");
        assert_eq!(number(&state["chargedCumulativeAmount"]), self.charged, "{state}");
        self.claimed = claimed;
        self.outpoint = serde_json::from_value(state["activeOutpoint"].clone()).unwrap();
        self.signed = number(&state["signedMaxClaimable"]);
        offer
    }

    /// Pays one request, through whatever claims come between.
    pub async fn buy_through_claims(&mut self, ask: &Ask, url: &str) -> Answer {
        let until = Instant::now() + PATIENCE;
        let mut accepted = self.offer(ask, url).await;
        loop {
            let answer = ask.send(url, Some(&self.paying(&accepted))).await;
            match answer.code().as_str() {
                "-" => {
                    self.served(&answer);
                    return answer;
                }
                "channel_busy" => {
                    tokio::time::sleep(Duration::from_millis(50)).await; // why: Retry-After is all that the gateway tells
                    accepted = batch_of(&answer);
                }
                // A slow machine does not hear of the chain in time: the same header is good later.
                "node_unavailable" => tokio::time::sleep(Duration::from_millis(50)).await, // why: Retry-After is all that the gateway tells
                "voucher_stale_outpoint" | "voucher_amount" => accepted = self.follow(&answer),
                _ => panic!("{answer:?} {}", answer.text()),
            }
            assert!(Instant::now() < until, "never served: {answer:?}");
        }
    }

    /// A top-up from the wallet's coin: the transaction, its continuation, and what that holds.
    pub fn top_up(&self, wallet: &Wallet, coin: &Coin) -> (Transaction, Outpoint, u64) {
        let added = Added { outpoint: coin.outpoint.into(), entry: coin.entry.clone() };
        let plan = plan_top_up(self.escrow(), sompi(self.active()), &[added], &SpendRules::of(Network::Simnet)).unwrap();
        let mut transaction = plan.transaction;
        let populated = PopulatedTransaction::new(&transaction, plan.entries.clone());
        let digest = calc_schnorr_signature_hash(&populated, 1, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes();
        let signature = sign(&wallet.keypair, &digest);
        transaction.inputs[1].signature_script = [&[65][..], &signature, &[SIG_HASH_ALL.to_u8()]].concat();
        let continuation = Outpoint { txid: transaction.id().into(), index: 1 };
        let funding = transaction.outputs[1].value;
        (transaction, continuation, funding)
    }

    pub fn refund(&self) -> Transaction {
        plan_refund(self.escrow(), &SpendRules::of(Network::Simnet)).unwrap().sign(self.escrow(), |digest| sign(&self.keypair, digest)).1
    }
}

/// An identifier that nobody used yet.
pub fn new_identifier() -> String {
    format!("identifier-{:012}", drawn())
}

/// The header value of a batch payment.
pub fn message(accepted: &Value, payload: &Value, identifier: &str) -> String {
    let mut message = json!({"x402Version": 2, "accepted": accepted, "payload": payload, "extensions": {}});
    message["extensions"][identifier::NAME] = identifier::advertise(true).clone();
    message["extensions"][identifier::NAME]["info"]["id"] = identifier.into();
    encode(&message)
}

/// Sends the same header until it is no longer pending.
pub async fn until_answered(ask: &Ask, gateway: &Gateway, header: &str) -> Answer {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask.send(&gateway.url(), Some(header)).await;
        if answer.status != 503 {
            return answer;
        }
        assert!(Instant::now() < until, "never answered: {} {}", answer.text(), gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await; // why: Retry-After is all that the gateway tells
    }
}

/// Several outputs for several wallets would be several payments: one transaction per channel is what clients do.
pub fn output(script: &EscrowScript, sompi: u64) -> TransactionOutput {
    TransactionOutput::new(sompi, script.script_public_key().clone())
}
