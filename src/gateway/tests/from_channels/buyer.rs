//! A client with a channel, as far as tests need one: honest unless it is told otherwise.

use crate::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, SignedVoucher, TemplateId,
        payload::{BatchPayload, ChannelVoucher, DepositVoucher},
        spend::{Coin, Escrow, SpendRules, plan_top_up},
    },
    client::wallet::Wallet,
    gateway::tests::world::{Ask, Got, World, sompi},
    protocol::{
        amount::Amount,
        charge::ChargeRule,
        ids::{ChannelId, Outpoint, Salt, TxId, XOnlyKey},
        network::Network,
        requirements::Asset,
    },
    wire::{header, identifier},
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{PopulatedTransaction, Transaction, TransactionInput, TransactionOutput, UtxoEntry},
};
use secp256k1::{Keypair, Message, SECP256K1};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub const DEPOSIT: u64 = 2_000_000_000;
pub const CEILING: u64 = 1_000_000;

static DRAWN: AtomicU64 = AtomicU64::new(1);

fn drawn() -> u64 {
    DRAWN.fetch_add(1, Ordering::SeqCst)
}

/// An identifier that nobody used yet.
pub fn new_identifier() -> String {
    format!("identifier-{:08}", drawn())
}

pub fn keypair(secret: &[u8; 32]) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, secret).unwrap()
}

pub fn x_only(keypair: &Keypair) -> XOnlyKey {
    XOnlyKey(keypair.x_only_public_key().0.serialize())
}

pub fn sign(keypair: &Keypair, digest: &[u8; 32]) -> [u8; 64] {
    SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), keypair).serialize()
}

pub fn ask() -> Ask {
    Ask::get("/paid")
}

/// A shop of one price, and an open channel that has paid once.
pub async fn opened() -> (World, Channel) {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let channel = world.open(&ask(), 1).await;
    (world, channel)
}

/// One channel and what its client knows of it.
#[derive(Clone)]
pub struct Channel {
    pub keypair: Keypair,
    pub config: ChannelConfig,
    pub script: Arc<EscrowScript>,
    pub outpoint: Outpoint,
    pub funding: u64,
    /// The funding transaction.
    pub deposit: Transaction,
    pub charged: u64,
    pub claimed: u64,
    pub signed: u64,
}

/// What a request is paid with, before it is written down.
#[derive(Clone)]
pub struct Paying {
    pub ask: Ask,
    pub accepted: Value,
    pub payload: Value,
    pub identifier: Option<String>,
}

impl Paying {
    pub fn named(mut self, identifier: &str) -> Self {
        self.identifier = Some(identifier.into());
        self
    }

    /// Changes the payload.
    pub fn changed(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.payload);
        self
    }

    pub fn message(&self) -> Value {
        let mut message = json!({"x402Version": 2, "accepted": self.accepted, "payload": self.payload, "extensions": {}});
        if let Some(id) = &self.identifier {
            message["extensions"][identifier::NAME] = identifier::advertise(true).clone();
            message["extensions"][identifier::NAME]["info"]["id"] = id.as_str().into();
        }
        message
    }

    pub fn ask(&self) -> Ask {
        self.ask.clone().paying(header::encode(&self.message()).to_str().unwrap())
    }
}

impl World {
    /// The exact way to pay a request.
    pub async fn exact_offer(&self, ask: &Ask) -> Value {
        let offers = self.send(ask).await.offers().unwrap();
        offers["accepts"].as_array().unwrap().iter().find(|offer| offer["scheme"] == "exact").unwrap().clone()
    }

    /// The batch way to pay a request.
    pub async fn batch_offer(&self, ask: &Ask) -> Value {
        let got = self.send(ask).await;
        assert_eq!(got.status(), 402);
        batch_of(&got)
    }

    /// A channel under an offer of the route, funded with a transaction that nobody has seen.
    pub async fn channel(&self, ask: &Ask, client: u8, funding: u64) -> Channel {
        let accepted = self.batch_offer(ask).await;
        Channel::under(&accepted, client, funding)
    }

    /// An open channel that has paid one request.
    pub async fn open(&self, ask: &Ask, client: u8) -> Channel {
        let mut channel = self.channel(ask, client, DEPOSIT).await;
        let paying = self.deposit(&channel, ask).await;
        let got = self.send(&paying.ask()).await;
        channel.served(&got);
        channel
    }

    /// The deposit-voucher that opens a channel and pays a request.
    pub async fn deposit(&self, channel: &Channel, ask: &Ask) -> Paying {
        let accepted = self.batch_offer(ask).await;
        let ceiling = amount_of(&accepted);
        channel.depositing(ask, accepted, ceiling)
    }

    pub async fn voucher(&self, channel: &Channel, ask: &Ask) -> Paying {
        let accepted = self.batch_offer(ask).await;
        channel.paying(ask, accepted)
    }

    /// Pays a request and keeps the client's books.
    pub async fn buy(&self, channel: &mut Channel, ask: &Ask) -> Got {
        let got = self.send(&self.voucher(channel, ask).await.ask()).await;
        channel.served(&got);
        got
    }
}

pub fn batch_of(got: &Got) -> Value {
    let offers = got.offers().expect("offers");
    let accepts = offers["accepts"].as_array().unwrap();
    accepts.iter().find(|entry| entry["scheme"] == "batch-settlement").expect("a batch offer").clone()
}

pub fn amount_of(accepted: &Value) -> u64 {
    accepted["amount"].as_str().unwrap().parse().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("not a number: {value}")).parse().unwrap()
}

impl Channel {
    pub fn under(accepted: &Value, client: u8, funding: u64) -> Self {
        let keypair = keypair(&[client; 32]);
        let extra = &accepted["extra"];
        let mut salt = [0; 32];
        salt[..8].copy_from_slice(&drawn().to_be_bytes());
        let config = ChannelConfig {
            network: Network::Simnet,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: x_only(&keypair),
            server_public_key: extra["serverPublicKey"].as_str().unwrap().parse().unwrap(),
            pay_to: accepted["payTo"].as_str().unwrap().into(),
            refund_address: Wallet::from_secret(Network::Simnet, &[client; 32]).unwrap().address().to_string(),
            refund_timeout_daa: number(&extra["refundTimeoutDaa"]),
            salt: Salt(salt),
        };
        Self::of(config, keypair, funding)
    }

    pub fn of(config: ChannelConfig, keypair: Keypair, funding: u64) -> Self {
        let script = Arc::new(EscrowScript::of(&config).unwrap());
        let mut coin = [0xdd; 32];
        coin[..8].copy_from_slice(&drawn().to_be_bytes());
        let input = TransactionInput::new(Outpoint { txid: TxId(coin), index: 0 }.into(), vec![0; 66], 0, 1);
        let output = TransactionOutput::new(funding, script.script_public_key().clone());
        let deposit = Transaction::new(0, vec![input], vec![output], 0, SUBNETWORK_ID_NATIVE, 0, vec![]);
        let outpoint = Outpoint { txid: deposit.id().into(), index: 0 };
        Self { keypair, config, script, outpoint, funding, deposit, charged: 0, claimed: 0, signed: 0 }
    }

    pub fn id(&self) -> ChannelId {
        self.config.channel_id()
    }

    pub fn active(&self) -> u64 {
        self.charged - self.claimed
    }

    pub fn sign(&self, outpoint: Outpoint, amount: u64) -> SignedVoucher {
        SignedVoucher::sign(&self.script, outpoint, sompi(amount), |digest| sign(&self.keypair, digest))
    }

    /// The next voucher, for a request under this offer.
    pub fn paying(&self, ask: &Ask, accepted: Value) -> Paying {
        let amount = self.signed.max(self.active() + amount_of(&accepted));
        self.paying_exactly(ask, accepted, amount)
    }

    pub fn paying_exactly(&self, ask: &Ask, accepted: Value, amount: u64) -> Paying {
        let payload = BatchPayload::Voucher(Box::new(ChannelVoucher {
            channel_id: self.id(),
            client_public_key: self.config.client_public_key,
            funding_outpoint: self.outpoint,
            active_script_public_key: self.script.serialized(),
            voucher: self.sign(self.outpoint, amount),
        }));
        self.with(ask, accepted, &payload)
    }

    pub fn depositing(&self, ask: &Ask, accepted: Value, voucher: u64) -> Paying {
        let payload = self.deposit_payload(Some(&self.deposit), self.outpoint, self.funding, voucher);
        self.with(ask, accepted, &payload)
    }

    pub fn deposit_payload(&self, transaction: Option<&Transaction>, outpoint: Outpoint, funding: u64, voucher: u64) -> BatchPayload {
        BatchPayload::DepositVoucher(Box::new(DepositVoucher {
            channel_config: self.config.clone(),
            channel_id: self.id(),
            escrow_address: self.script.address().to_string(),
            funding_transaction: transaction.map(|transaction| hex::encode(borsh::to_vec(transaction).unwrap())),
            funding_outpoint: outpoint,
            funding_amount_sompi: sompi(funding),
            active_script_public_key: self.script.serialized(),
            voucher: self.sign(outpoint, voucher),
        }))
    }

    pub fn with(&self, ask: &Ask, accepted: Value, payload: &BatchPayload) -> Paying {
        let payload = serde_json::to_value(payload).unwrap();
        Paying { ask: ask.clone(), accepted, payload, identifier: Some(new_identifier()) }
    }

    /// A top-up that adds `added`, and what it continues with.
    pub fn top_up(&self, added: u64) -> (Transaction, Outpoint, u64) {
        let wallet = Wallet::from_secret(Network::Simnet, &[77; 32]).unwrap();
        let mut coin = [0xee; 32];
        coin[..8].copy_from_slice(&drawn().to_be_bytes());
        let entry = UtxoEntry::new(added, wallet.script(), 1, false, None);
        let coin = Coin { outpoint: Outpoint { txid: TxId(coin), index: 0 }, entry };
        let plan = plan_top_up(self.escrow(), sompi(self.active()), &[coin], &SpendRules::of(Network::Simnet)).unwrap();
        let mut transaction = plan.transaction;
        for index in 1..transaction.inputs.len() {
            let populated = PopulatedTransaction::new(&transaction, plan.entries.clone());
            let digest = calc_schnorr_signature_hash(&populated, index, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes();
            let signature = sign(&keypair(&[77; 32]), &digest);
            transaction.inputs[index].signature_script = [&[65][..], &signature, &[SIG_HASH_ALL.to_u8()]].concat();
        }
        let continuation = Outpoint { txid: transaction.id().into(), index: 1 };
        let funding = transaction.outputs[1].value;
        (transaction, continuation, funding)
    }

    pub fn escrow(&self) -> Escrow<'_> {
        Escrow { script: &self.script, outpoint: self.outpoint, funding: sompi(self.funding) }
    }

    /// Reads the receipt of a served request into the client's books, which must agree with it.
    #[track_caller]
    pub fn served(&mut self, got: &Got) -> u64 {
        let words = String::from_utf8_lossy(&got.answer.body).into_owned();
        assert_eq!(got.status(), 200, "{words}");
        let receipt = got.receipt().expect("a receipt");
        assert_eq!(receipt["success"], true, "{receipt}");
        self.read(&receipt)
    }

    #[track_caller]
    pub fn read(&mut self, receipt: &Value) -> u64 {
        let kaspa = &receipt["extensions"]["kaspa"];
        let charge = number(&kaspa["chargedAmount"]);
        assert_eq!(receipt["transaction"], kaspa["commitmentId"]);
        assert_eq!(number(&receipt["amount"]), charge);
        self.charged += charge;
        let state = &kaspa["channelState"];
        assert_eq!(state["channelId"], self.id().to_string());
        assert_eq!(number(&state["chargedCumulativeAmount"]), self.charged, "{state}");
        assert_eq!(number(&state["claimedCumulativeAmount"]), self.claimed, "{state}");
        assert_eq!(number(&state["fundingAmount"]), self.funding, "{state}");
        self.signed = number(&state["signedMaxClaimable"]);
        charge
    }

    /// What the store has of it.
    pub async fn record(&self, world: &World) -> Arc<crate::store::channels::ChannelRecord> {
        use crate::store::channels::ChannelStore as _;
        world.store.channel(&self.id()).await.unwrap().expect("an open channel")
    }
}

/// An amount of the record.
pub fn parts(amount: Amount) -> u64 {
    amount.sompi()
}
