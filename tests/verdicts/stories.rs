//! Negative cases that need a past: what the store remembers, and what the chain says. Each is told through one way in; the codes have to be
//! the same through all.

use crate::{
    Runner, SOLD, Said,
    support::{
        channel::{Channel, new_identifier},
        devnet::{Coin, KAS, Wallet},
        pay::{self, Ask},
        tenants::Place,
    },
    table::{IDENTIFIER, Scheme, base, decoded_transaction},
};
use kas402::{
    protocol::ids::{RequestHash, Salt},
    wire::identifier,
};
use kaspa_consensus_core::{
    mass::ComputeBudget,
    tx::{ComputeCommit, CovenantBinding, Transaction, TransactionOutput},
};
use kaspa_hashes::Hash;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The codes of [`Teller::exact`], wherever exact payments are sold.
pub const EXACT: &[&str] = &[
    "invalid_kaspa_exact_conflicting_spend",
    "invalid_kaspa_exact_replay",
    "kaspa_exact_older_than_offer",
    "payer_proof_invalid",
    "payer_proof_required",
];
/// Of [`Teller::strict`].
pub const STRICT: &[&str] = &["kaspa_exact_foreign_transaction"];
/// Of [`Teller::channel`] and [`Teller::ends`], wherever channels pay.
pub const CHANNEL: &[&str] = &[
    "channel_balance",
    "channel_busy",
    "channel_closed",
    "channel_unknown",
    "deposit_covenant",
    "exposure_limit",
    "invalid_kaspa_escrow_client_key",
    "invalid_kaspa_escrow_config",
    "invalid_kaspa_escrow_funding_outpoint",
    "invalid_kaspa_escrow_funding_rejected",
    "invalid_kaspa_escrow_funding_script",
    "invalid_kaspa_escrow_script",
    "invalid_kaspa_escrow_top_up",
    "invalid_kaspa_escrow_top_up_amount",
    "invalid_kaspa_escrow_top_up_signature",
    "offer_reused",
    "outpoint_in_use",
    "payment_identifier_reused",
    "refund_window",
    "script_in_use",
    "top_up_nothing_to_claim",
    "voucher_amount",
    "voucher_stale_outpoint",
];
/// Of [`Teller::offers`]: of who makes offers.
pub const OFFERS: &[&str] =
    &["offer_expired", "offer_key_unknown", "offer_malformed", "offer_other_route", "paid_late", "payment_identifier_not_echoed"];

/// What one runner was told.
pub struct Teller<'a, R> {
    pub runner: &'a R,
    pub place: &'a Place,
    pub said: BTreeSet<String>,
}

impl<'a, R: Runner> Teller<'a, R> {
    pub fn of(runner: &'a R, place: &'a Place) -> Self {
        Self { runner, place, said: BTreeSet::new() }
    }

    /// Presents the payment for an operation; the answer's code has to be this one.
    async fn says(&mut self, operation: u8, message: &Value, code: &str) -> Said {
        let said = self.runner.said(operation, message).await;
        assert_eq!(said.code, code, "{}: {}", self.runner.name(), said.receipt);
        self.said.insert(said.code.clone());
        said
    }

    #[track_caller]
    pub fn told(&self, codes: &[&str]) {
        let told: Vec<&str> = self.said.iter().map(String::as_str).filter(|code| *code != SOLD).collect();
        assert_eq!(told, codes, "{}", self.runner.name());
    }

    /// A payment that nobody presented yet.
    fn payment(&self, payer: &Wallet, coin: &Coin, terms: &Value) -> Value {
        with_identifier(base(Scheme::Exact, payer, std::slice::from_ref(coin), terms))
    }

    /// `old` was accepted long before the offers that are made now.
    pub async fn exact(&mut self, payer: &Wallet, coins: &[Coin], old: &Transaction) {
        let terms = self.runner.terms(Scheme::Exact).await;
        let good = self.payment(payer, &coins[0], &terms);
        self.says(0, &good, SOLD).await;
        self.says(1, &good, "invalid_kaspa_exact_replay").await;
        self.says(0, &good, SOLD).await;

        // The network knew it.
        let known = self.payment(payer, &coins[1], &terms);
        self.place.devnet.submit(0, &decoded_transaction(&known)).await.unwrap();
        let said = self.says(0, &known, "payer_proof_required").await;
        self.says(0, &proven(&known, &said, &Wallet::new(99)), "payer_proof_invalid").await;
        self.says(0, &proven(&known, &said, payer), SOLD).await;

        // Two spends of one coin: whichever comes second learns it when the first is final.
        let one = self.payment(payer, &coins[2], &terms);
        let mut other = one.clone();
        let outputs = decoded_transaction(&one).outputs[..1].to_vec();
        let rival = payer.build(&coins[2..3], outputs, 150);
        other["payload"]["transaction"] = hex::encode(borsh::to_vec(&rival).unwrap()).into();
        other["payload"]["transactionId"] = rival.id().to_string().into();
        other["extensions"][identifier::NAME]["info"]["id"] = new_identifier().into();
        let (first, second) = tokio::join!(self.runner.said(2, &one), self.runner.said(3, &other));
        let mut codes = [first.code, second.code];
        codes.sort();
        assert_eq!(codes, [SOLD, "invalid_kaspa_exact_conflicting_spend"], "{}", self.runner.name());
        self.said.extend(codes);

        let terms = self.runner.terms(Scheme::Exact).await;
        let mut message = with_identifier(pay::message(&Ask::get("/"), &terms, old));
        message["payload"].as_object_mut().unwrap().remove("requestHash");
        let said = self.says(4, &message, "payer_proof_required").await;
        self.says(4, &proven(&message, &said, payer), "kaspa_exact_older_than_offer").await;
    }

    /// What the network knew is sold to nobody.
    pub async fn strict(&mut self, payer: &Wallet, coin: &Coin) {
        let terms = self.runner.terms(Scheme::Exact).await;
        let known = self.payment(payer, coin, &terms);
        self.place.devnet.submit(0, &decoded_transaction(&known)).await.unwrap();
        self.says(0, &known, "kaspa_exact_foreign_transaction").await;
    }

    /// Offers of one's own; `brief` are some that are over by now.
    pub async fn offers(&mut self, brief: &impl Runner, over: &Value, payer: &Wallet, coins: &[Coin]) {
        let terms = self.runner.terms(Scheme::Exact).await;
        let good = self.payment(payer, &coins[0], &terms);
        let offered = |token: &str| {
            let mut message = good.clone();
            message["accepted"]["extra"]["offer"] = token.into();
            message
        };
        self.says(0, &offered("v1"), "offer_malformed").await;
        let token = terms["extra"]["offer"].as_str().unwrap();
        let mut parts: Vec<&str> = token.split('.').collect();
        // "unknown"
        parts[1] = "dW5rbm93bg";
        self.says(0, &offered(&parts.join(".")), "offer_key_unknown").await;
        let elsewhere = brief.terms(Scheme::Exact).await;
        let moved = self.payment(payer, &coins[0], &elsewhere);
        self.says(0, &moved, "offer_other_route").await;
        let mut half = good.clone();
        half["extensions"][identifier::NAME] = json!({});
        self.says(0, &half, "payment_identifier_not_echoed").await;
        self.says(0, &good, SOLD).await;

        let mut late = Teller::of(brief, self.place);
        late.says(0, &late.payment(payer, &coins[1], over), "offer_expired").await;
        let sent = late.payment(payer, &coins[2], over);
        self.place.devnet.submit(0, &decoded_transaction(&sent)).await.unwrap();
        late.says(1, &sent, "paid_late").await;
        self.said.append(&mut late.said);
    }

    /// What can be said of a channel while it lives; one that stays open, for [`Self::ends`].
    pub async fn channel(&mut self, wallets: &[Wallet; 3]) -> Channel {
        let [payer, ..] = wallets;
        let coins = self.place.devnet.fund(payer, 20 * KAS, 3).await;
        let terms = self.runner.terms(Scheme::Batch).await;
        let mut channel = Channel::under(&terms, payer, &coins[..1], 8 * KAS);
        self.openings(&mut channel, &terms, &coins[1]).await;
        self.vouchers(&mut channel).await;
        self.top_ups(&mut channel, payer, &coins[2]).await;
        self.claims(&mut channel, payer).await;
        self.limits(&wallets[1], 20 * KAS, "exposure_limit").await;
        self.limits(&wallets[2], 5 * KAS, "channel_balance").await
    }

    /// Deposits that open nothing, and one that does.
    async fn openings(&mut self, channel: &mut Channel, terms: &Value, spare: &Coin) {
        let ceiling = number(&terms["amount"]);
        let deposit = |channel: &Channel, transaction: &Transaction, index: u32| {
            let outpoint = kas402::protocol::ids::Outpoint { txid: transaction.id().into(), index };
            let funding = transaction.outputs.get(usize::try_from(index).unwrap()).map_or(channel.funding, |output| output.value);
            batch(terms, &channel.deposit_payload(Some(transaction), outpoint, funding, ceiling))
        };
        let mut nowhere = channel.clone();
        nowhere.config.refund_address = "kaspasim:nowhere".into();
        self.says(0, &opening(&nowhere, terms), "invalid_kaspa_escrow_config").await;
        self.says(0, &deposit(channel, &channel.deposit, 9), "invalid_kaspa_escrow_funding_outpoint").await;
        self.says(0, &deposit(channel, &channel.deposit, 1), "invalid_kaspa_escrow_funding_script").await;
        let mut bound = channel.deposit.clone();
        bound.version = 1;
        bound.inputs[0].compute_commit = ComputeCommit::ComputeBudget(ComputeBudget(10));
        bound.outputs[0].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
        bound.finalize();
        self.says(0, &deposit(channel, &bound, 0), "deposit_covenant").await;
        let mut forged = channel.deposit.clone();
        forged.inputs[0].signature_script[10] ^= 1;
        self.says(0, &deposit(channel, &forged, 0), "invalid_kaspa_escrow_funding_rejected").await;

        // The same money, or the same script, as another channel.
        let open = with_identifier(opening(channel, terms));
        channel.read(&self.says(0, &open, SOLD).await.receipt);
        self.says(1, &open, "payment_identifier_reused").await;
        let mut salted = channel.clone();
        salted.config.salt = Salt([0x5c; 32]);
        self.says(0, &opening(&salted, terms), "outpoint_in_use").await;
        let again =
            Wallet { keypair: channel.keypair }.pay(std::slice::from_ref(spare), channel.script.script_public_key(), channel.funding);
        self.says(0, &deposit(&salted, &again, 0), "script_in_use").await;
    }

    async fn vouchers(&mut self, channel: &mut Channel) {
        let terms = self.runner.terms(Scheme::Batch).await;
        let due = channel.active() + number(&terms["amount"]);
        let voucher = |amount: u64| named(&channel.paying_exactly(&terms, amount, &new_identifier()));
        for wrong in [due - 1, due + 1] {
            self.says(2, &voucher(wrong), "voucher_amount").await;
        }
        let changed = |name: &str, value: &str| {
            let mut message = voucher(due);
            message["payload"][name] = value.into();
            message
        };
        let key = hex::encode(Wallet::new(98).keypair.x_only_public_key().0.serialize());
        self.says(2, &changed("clientPublicKey", &key), "invalid_kaspa_escrow_client_key").await;
        let script = format!("0000aa20{}87", "5c".repeat(32));
        self.says(2, &changed("activeScriptPublicKey", &script), "invalid_kaspa_escrow_script").await;
        let mut forged = voucher(due);
        forged["payload"]["voucher"]["signature"] = "5c".repeat(64).into();
        self.says(2, &forged, "channel_unknown").await;
        channel.read(&self.says(2, &voucher(due), SOLD).await.receipt);
        let again = named(&channel.paying(&terms));
        self.says(3, &again, "offer_reused").await;
    }

    async fn top_ups(&mut self, channel: &mut Channel, wallet: &Wallet, coin: &Coin) {
        let terms = self.runner.terms(Scheme::Batch).await;
        let ceiling = number(&terms["amount"]);
        let (good, continuation, funding) = channel.top_up(wallet, coin);
        let with = |channel: &Channel, transaction: &Transaction| {
            let outpoint = kas402::protocol::ids::Outpoint { txid: transaction.id().into(), index: 1 };
            batch(&terms, &channel.deposit_payload(Some(transaction), outpoint, transaction.outputs[1].value, ceiling))
        };
        let changed = |change: &dyn Fn(&mut Transaction)| {
            let mut transaction = good.clone();
            change(&mut transaction);
            transaction.finalize();
            with(channel, &transaction)
        };
        let more = TransactionOutput::new(KAS, wallet.script());
        self.says(4, &changed(&|top_up| top_up.outputs.push(more.clone())), "invalid_kaspa_escrow_top_up").await;
        self.says(4, &changed(&|top_up| top_up.outputs[0].value -= KAS / 2), "invalid_kaspa_escrow_top_up_amount").await;
        self.says(
            4,
            &changed(&|top_up| *top_up.inputs[1].signature_script.last_mut().unwrap() = 2),
            "invalid_kaspa_escrow_top_up_signature",
        )
        .await;
        let said = self.says(4, &with(channel, &good), SOLD).await;
        (channel.claimed, channel.outpoint, channel.funding) = (channel.charged, continuation, funding);
        channel.read(&said.receipt);
    }

    /// A claim on its way, and what it leaves behind.
    async fn claims(&mut self, channel: &mut Channel, wallet: &Wallet) {
        let gateway = &self.place.gateway;
        let terms = self.runner.terms(Scheme::Batch).await;
        channel.read(&self.says(5, &named(&channel.paying(&terms)), SOLD).await.receipt);
        let before = named(&channel.paying(&self.runner.terms(Scheme::Batch).await));
        self.place.devnet.set_rate(0, 0.0).await;
        let claimed = gateway.command().args(["claim", &channel.id().to_string(), "--json"]).output().await.unwrap();
        assert!(claimed.status.success(), "{claimed:?}");
        self.says(6, &before, "channel_busy").await;
        self.place.devnet.set_rate(0, 10.0).await;
        let told: Value = serde_json::from_slice(&claimed.stdout).unwrap();
        gateway.until("the claim is accepted", async || self.runner.said(6, &before).await.code != "channel_busy").await;
        self.says(6, &before, "voucher_stale_outpoint").await;
        let continuation = &told[0]["claim"]["continuationOutpoint"];
        channel.outpoint = serde_json::from_value(continuation.clone()).unwrap_or_else(|error| panic!("{error}: {told}"));
        (channel.funding, channel.claimed, channel.signed) = (channel.funding - channel.active(), channel.charged, 0);
        // It owes nothing now, whatever its client believes.
        let coins = self.place.devnet.fund(wallet, 10 * KAS, 1).await;
        let mut owing = channel.clone();
        owing.charged += 2 * KAS;
        let (top_up, continuation, funding) = owing.top_up(wallet, &coins[0]);
        let terms = self.runner.terms(Scheme::Batch).await;
        let payload = channel.deposit_payload(Some(&top_up), continuation, funding, number(&terms["amount"]));
        self.says(7, &batch(&terms, &payload), "top_up_nothing_to_claim").await;
    }

    /// A channel that is used until it is refused.
    async fn limits(&mut self, wallet: &Wallet, funding: u64, code: &str) -> Channel {
        let coins = self.place.devnet.fund(wallet, funding + KAS, 1).await;
        let terms = self.runner.terms(Scheme::Batch).await;
        let mut channel = Channel::under(&terms, wallet, &coins, funding);
        channel.read(&self.says(0, &opening(&channel, &terms), SOLD).await.receipt);
        for operation in 0..20 {
            let terms = self.runner.terms(Scheme::Batch).await;
            let message = named(&channel.paying(&terms));
            let said = self.runner.said(operation, &message).await;
            if said.code != SOLD {
                self.says(operation, &message, code).await;
                return channel;
            }
            channel.read(&said.receipt);
        }
        panic!("{}: never {code}", self.runner.name());
    }

    /// Near its refund.
    pub async fn ends(&mut self, channel: &Channel) {
        let terms = self.runner.terms(Scheme::Batch).await;
        self.says(8, &named(&channel.paying(&terms)), "refund_window").await;
    }

    /// After it.
    pub async fn closed(&mut self, channel: &Channel) {
        let terms = self.runner.terms(Scheme::Batch).await;
        let message = named(&channel.paying(&terms));
        let gone = async || self.runner.said(8, &message).await.code != "refund_window";
        self.place.gateway.until("the refund is seen", gone).await;
        self.says(8, &message, "channel_closed").await;
    }
}

fn number(value: &Value) -> u64 {
    crate::support::channel::number(value)
}

/// Of nobody else's.
pub fn with_identifier(mut message: Value) -> Value {
    let id = &mut message["extensions"][identifier::NAME];
    if id.is_null() || id["info"]["id"] == IDENTIFIER {
        *id = identifier::advertise(true).clone();
        id["info"]["id"] = new_identifier().into();
    }
    message
}

fn batch(terms: &Value, payload: &Value) -> Value {
    with_identifier(json!({"x402Version": 2, "accepted": terms, "payload": payload, "extensions": {}}))
}

fn opening(channel: &Channel, terms: &Value) -> Value {
    batch(terms, &channel.deposit_payload(Some(&channel.deposit), channel.outpoint, channel.funding, number(&terms["amount"])))
}

/// The message in a header.
pub fn named(header: &str) -> Value {
    kas402::wire::header::decode(header.as_bytes()).unwrap()
}

/// With the proof that the refusal asks for.
fn proven(message: &Value, refusal: &Said, payer: &Wallet) -> Value {
    let asked = refusal.receipt["extensions"]["kaspa"]["requestHash"].as_str();
    let hash: RequestHash = asked.unwrap_or_else(|| panic!("it names no hash: {}", refusal.receipt)).parse().unwrap();
    pay::proven(message.clone(), hash, payer)
}
