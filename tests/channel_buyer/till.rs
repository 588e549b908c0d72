//! An honest gateway of channels for the buyer's tests: judges with the binding's own `verify`, counts with the binding's own
//! `state`, moves money on whatever chain it is given. Tests make it lie by changing what it is about to say.
//!
//! `/pay/{ceiling}/{charge}` sells; `/stream/{ceiling}/{charge}/{event|trailer|url|silent}` tells the cost at the end; `/model` costs at most
//! the number in its body; `/free` is free.
#![allow(dead_code)]

use kas402::{
    binding::{
        escrow_v1::{
            ChannelConfig, ChannelFacts, EscrowScript, EscrowTerms, ServerKey, SignedVoucher, VerifiedVoucher,
            hashes::Commitment,
            payload::{self, DepositVoucher, RoutePayload},
            spend::{Escrow, SignedClaim, SpendRules, check_top_up, plan_claim, reserve},
            state::{Accounts, Idle},
            verify::{self, verify_deposit},
        },
        exact_v1::decode,
    },
    chain::{Chain, SubmitOutcome, TxStatus},
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, XOnlyKey},
        network::Network,
        refusal::Code,
        requirements::{Extra, Requirements},
    },
    wire::{envelope, fingerprint, header, identifier},
};
use kaspa_consensus_core::tx::Transaction;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

pub type Change = Box<dyn Fn(&mut Value) + Send + Sync>;

pub fn sompi(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

/// An answer before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new(), trailers: Vec::new() }
    }

    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    pub channel: ChannelId,
    pub identifier: PaymentIdentifier,
    pub charge: u64,
}

struct Served {
    identity: (String, String, Vec<u8>),
    answer: Answer,
    receipt: Value,
}

struct Channel {
    config: ChannelConfig,
    script: EscrowScript,
    outpoint: Outpoint,
    previous: Option<Outpoint>,
    idle: Option<Idle>,
    voucher: Option<SignedVoucher>,
    served: HashMap<String, Served>,
    used: HashMap<String, String>,
}

#[derive(Default)]
struct Inside {
    channels: HashMap<ChannelId, Channel>,
    offers: HashMap<String, (Value, String)>,
    count: u64,
    ledger: Vec<Charged>,
    asked: usize,
}

/// What a test may change while it runs.
#[derive(Default)]
pub struct Mood {
    /// Applied to every receipt of success.
    pub receipt: Option<Change>,
    /// Applied to `channelState` and `voucherState` of every correction (as `{"channelState":…, "voucherState":…}`).
    pub correction: Option<Change>,
    /// Refuse every deposit for now.
    pub unconfirmed: bool,
    /// Offer an exact payment beside.
    pub exact: bool,
    /// No renewed offers.
    pub stingy: bool,
    /// Refuse the next so many paid requests as busy.
    pub busy: u32,
    /// Call every voucher's amount wrong, and say where the channel stands.
    pub misjudge: bool,
    /// Refuse every payment with this code.
    pub refuse: Option<Code>,
    /// Receipts, commitment included, say that so much more was charged before.
    pub shift: i64,
    /// Answer paid requests without a receipt.
    pub mute: bool,
    pub timeout_daa: u64,
}

pub struct Till {
    key: ServerKey,
    pub seller: Wallet,
    chain: Arc<dyn Chain>,
    rules: SpendRules,
    pub min_deposit: u64,
    pub origin: Mutex<String>,
    pub mood: Mutex<Mood>,
    inside: tokio::sync::Mutex<Inside>,
}

struct Refusal(Code, Option<ChannelId>);

impl From<envelope::Fault> for Refusal {
    fn from(fault: envelope::Fault) -> Self {
        Self(fault.code, None)
    }
}

impl Till {
    pub fn new(chain: Arc<dyn Chain>, timeout_daa: u64) -> Self {
        Self {
            key: ServerKey::new(&[2; 32], false).unwrap(),
            seller: Wallet::from_secret(Network::Simnet, &[9; 32]).unwrap(),
            rules: SpendRules::of(chain.network()),
            chain,
            min_deposit: 100_000_000,
            origin: Mutex::new("http://shop.test".into()),
            mood: Mutex::new(Mood { timeout_daa, ..Mood::default() }),
            inside: tokio::sync::Mutex::default(),
        }
    }

    pub fn mood(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood.lock().unwrap());
    }

    pub async fn ledger(&self) -> Vec<Charged> {
        self.inside.lock().await.ledger.clone()
    }

    /// Requests that came without a payment.
    pub async fn asked(&self) -> usize {
        self.inside.lock().await.asked
    }

    pub async fn channel_ids(&self) -> Vec<ChannelId> {
        self.inside.lock().await.channels.keys().copied().collect()
    }

    /// C, K, M, what the active outpoint holds, and where it is.
    pub async fn books(&self, id: &ChannelId) -> (u64, u64, u64, u64, Outpoint) {
        let inside = self.inside.lock().await;
        let channel = &inside.channels[id];
        let parts = channel.idle.as_ref().unwrap().accounts().parts();
        (parts.charged.sompi(), parts.claimed.sompi(), parts.signed.sompi(), parts.funding.sompi(), channel.outpoint)
    }

    /// The voucher held for the active outpoint.
    pub async fn voucher(&self, id: &ChannelId) -> Option<SignedVoucher> {
        self.inside.lock().await.channels[id].voucher
    }

    /// Every offer that was made is void from now on.
    pub async fn expire_offers(&self) {
        self.inside.lock().await.offers.clear();
    }

    /// Forgets a channel, as a gateway with another store would.
    pub async fn forget(&self, id: &ChannelId) {
        self.inside.lock().await.channels.remove(id);
    }

    /// Claims all that is active.
    pub async fn claim(&self, id: &ChannelId) {
        let mut inside = self.inside.lock().await;
        let channel = inside.channels.get_mut(id).unwrap();
        let claiming = channel.idle.clone().unwrap().claim().unwrap();
        let signed = self.spend(channel, claiming.takes(), channel.voucher.unwrap());
        self.accepted(&signed.transaction).await;
        self.moved(channel, &signed, claiming.accepted().0);
    }

    /// Takes more than was charged: all that the voucher allows.
    pub async fn steal(&self, id: &ChannelId) {
        let mut inside = self.inside.lock().await;
        let channel = inside.channels.get_mut(id).unwrap();
        let voucher = channel.voucher.unwrap();
        let signed = self.spend(channel, voucher.amount, voucher);
        self.accepted(&signed.transaction).await;
        (channel.previous, channel.outpoint, channel.voucher) = (Some(channel.outpoint), signed.continuation, None);
    }

    /// Claims if there is enough to claim and nobody was there before.
    pub async fn try_claim(&self, id: &ChannelId) {
        let inside = self.inside.lock().await;
        let possible = self.spendable(&inside.channels[id]).await;
        let held = inside.channels[id].voucher.is_some();
        let active = inside.channels[id].idle.as_ref().unwrap().accounts().active();
        drop(inside);
        if possible && held && active.sompi() > 4_000_000 {
            self.claim(id).await;
        }
    }

    pub async fn try_steal(&self, id: &ChannelId) {
        let inside = self.inside.lock().await;
        let possible = self.spendable(&inside.channels[id]).await;
        let signed = inside.channels[id].voucher.map_or(0, |voucher| voucher.amount.sompi());
        drop(inside);
        if possible && signed > 4_000_000 {
            self.steal(id).await;
        }
    }

    async fn spendable(&self, channel: &Channel) -> bool {
        let utxos = self.chain.utxos(&channel.script.address().to_string()).await.unwrap();
        utxos.iter().any(|utxo| utxo.outpoint == channel.outpoint)
    }

    fn spend(&self, channel: &Channel, takes: Amount, voucher: SignedVoucher) -> SignedClaim {
        let funding = channel.idle.as_ref().unwrap().accounts().parts().funding;
        let escrow = Escrow { script: &channel.script, outpoint: channel.outpoint, funding };
        plan_claim(escrow, takes, &self.rules).unwrap().sign(escrow, &voucher, |digest| self.key.sign(digest)).unwrap()
    }

    fn moved(&self, channel: &mut Channel, signed: &SignedClaim, idle: Idle) {
        (channel.previous, channel.outpoint, channel.voucher) = (Some(channel.outpoint), signed.continuation, None);
        channel.idle = Some(idle);
    }

    /// Submits and waits for acceptance.
    pub async fn accepted(&self, transaction: &Transaction) {
        let mut status = self.chain.follow(transaction, None, true);
        let outcome = self.chain.submit(transaction).await;
        assert!(!matches!(outcome, SubmitOutcome::Rejected(_)), "{outcome:?}");
        let accepted = status.wait_for(|status| matches!(status, TxStatus::Accepted(_)));
        timeout(PATIENCE, accepted).await.unwrap_or_else(|_| panic!("never accepted: {outcome:?}")).unwrap();
    }

    pub async fn handle(&self, method: &str, target: &str, payment: Option<&str>, body: &[u8]) -> Answer {
        if let Some(rest) = target.strip_prefix("/.well-known/kas402/receipts/") {
            return self.receipt(rest).await;
        }
        let Some(ceiling) = ceiling(target, body) else { return Answer::new(200).body("free") };
        let mut inside = self.inside.lock().await;
        let Some(payment) = payment else {
            inside.asked += 1;
            return self.ask(&mut inside, target, ceiling, Refusal(Code::PaymentRequired, None));
        };
        match self.serve(&mut inside, (method, target, body), ceiling, payment).await {
            Ok(answer) => answer,
            Err(refusal) => self.ask(&mut inside, target, ceiling, refusal),
        }
    }

    async fn receipt(&self, rest: &str) -> Answer {
        let inside = self.inside.lock().await;
        let (channel, identifier) = rest.split_once('/').unwrap();
        let channel = channel.parse().ok().and_then(|id: ChannelId| inside.channels.get(&id));
        match channel.and_then(|channel| channel.served.get(identifier)) {
            Some(served) if !served.receipt.is_null() => Answer::new(200).body(served.receipt.to_string()),
            _ => Answer::new(404),
        }
    }

    fn requirements(&self, inside: &mut Inside, target: &str, ceiling: u64, about: Option<ChannelId>) -> Value {
        inside.count += 1;
        let token = format!("v1.{}", inside.count);
        let timeout_daa = self.mood.lock().unwrap().timeout_daa;
        let mut extra = json!({
            "binding": "kaspa-escrow-v1", "templateId": "kaspa-x402-escrow-v1", "serverPublicKey": self.key.public(),
            "minDepositSompi": self.min_deposit.to_string(), "refundTimeoutDaa": timeout_daa.to_string(), "offer": token,
        });
        if let Some(channel) = about.and_then(|id| inside.channels.get(&id)) {
            let voucher = match channel.voucher {
                Some(voucher) => json!(voucher),
                None => json!({"amount": "0"}),
            };
            let mut said = json!({"channelState": state(channel), "voucherState": voucher});
            if let Some(change) = &self.mood.lock().unwrap().correction {
                change(&mut said);
            }
            for name in ["channelState", "voucherState"] {
                extra[name] = said[name].clone();
            }
        }
        let entry = json!({
            "scheme": "batch-settlement", "network": "kaspa:simnet", "amount": ceiling.to_string(), "asset": "KAS",
            "payTo": self.seller.address().to_string(), "maxTimeoutSeconds": 300, "extra": extra,
        });
        inside.offers.insert(token, (entry.clone(), target.to_owned()));
        entry
    }

    /// A 402, or a refusal without offers.
    fn ask(&self, inside: &mut Inside, target: &str, ceiling: u64, Refusal(code, about): Refusal) -> Answer {
        let failed = json!({"success": false, "errorReason": "x", "transaction": "", "extensions": {"kaspa": {"reason": code.as_str()}}});
        let mut answer = Answer::new(code.status());
        if code.status() == 402 {
            let entry = self.requirements(inside, target, ceiling, about);
            let origin = self.origin.lock().unwrap().clone();
            let exact = json!({
                "scheme": "exact", "network": "kaspa:simnet", "amount": ceiling.to_string(), "asset": "KAS",
                "payTo": self.seller.address().to_string(), "maxTimeoutSeconds": 300,
                "extra": {"binding": "kaspa-exact-v1", "finality": "accepted", "paymentFlow": "upfront", "offer": "v1.exact"},
            });
            let accepts = if self.mood.lock().unwrap().exact { vec![exact, entry] } else { vec![entry] };
            let message = json!({
                "x402Version": 2, "resource": {"url": format!("{origin}{target}")}, "accepts": accepts,
                "extensions": {identifier::NAME: identifier::advertise(true), "kaspa": {"reason": code.as_str()}},
            });
            answer = answer.field("payment-required", encoded(&message));
        }
        if code != Code::PaymentRequired {
            answer = answer.field("payment-response", encoded(&failed));
        }
        if code == Code::ChannelBusy || code.status() == 503 {
            answer = answer.field("retry-after", "0");
        }
        answer
    }

    async fn serve(&self, inside: &mut Inside, request: (&str, &str, &[u8]), ceiling: u64, payment: &str) -> Result<Answer, Refusal> {
        let (method, target, body) = request;
        let envelope = envelope::decode(payment.as_bytes())?;
        let id = identifier::read(&envelope.extensions, true).map_err(|code| Refusal(code, None))?.expect("required");
        let refuse = self.mood.lock().unwrap().refuse;
        if let Some(code) = refuse {
            return Err(Refusal(code, None));
        }
        let accepted = serde_json::to_value(&envelope.accepted).unwrap();
        let token = envelope.accepted.extra.offer().to_owned();
        let living = match inside.offers.get(&token) {
            Some((offered, _)) if *offered != accepted => return Err(Refusal(Code::OfferNotOurs, None)),
            Some((_, of)) if of != target => return Err(Refusal(Code::OfferOtherRoute, None)),
            Some(_) if envelope.accepted.amount.sompi() != ceiling => return Err(Refusal(Code::OfferOtherPrice, None)),
            offer => offer.is_some(),
        };
        let payload = payload::parse(envelope.payload.clone())?.on_route()?;
        let (channel_id, presented) = match &payload {
            RoutePayload::Deposit(deposit) => (deposit.channel_id, deposit.voucher),
            RoutePayload::Voucher(voucher) => (voucher.channel_id, voucher.voucher),
        };
        if let RoutePayload::Deposit(deposit) = &payload {
            self.deposit(inside, deposit, &envelope.accepted).await?;
        }
        let about = Some(channel_id);
        let channel = inside.channels.get_mut(&channel_id).ok_or(Refusal(Code::ChannelUnknown, None))?;
        let identity = (method.to_owned(), target.to_owned(), body.to_vec());
        let verified = match &payload {
            RoutePayload::Voucher(voucher) => {
                let facts =
                    ChannelFacts { id: channel_id, script: &channel.script, outpoint: channel.outpoint, previous: channel.previous };
                let proven = verify::prove(voucher, facts)?;
                if let Some(served) = channel.served.get(id.as_str()) {
                    return replay(served, &identity);
                }
                if !living {
                    return Err(Refusal(Code::OfferExpired, None));
                }
                if self.mood.lock().unwrap().busy > 0 {
                    self.mood.lock().unwrap().busy -= 1;
                    return Err(Refusal(Code::ChannelBusy, about));
                }
                if self.mood.lock().unwrap().misjudge {
                    return Err(Refusal(Code::VoucherAmount, about));
                }
                let accounts = channel.idle.as_ref().unwrap().accounts();
                let reserve = reserve(&channel.script, accounts.parts().funding, &self.rules).unwrap();
                proven.authorise(accounts, sompi(ceiling), reserve).map_err(|fault| Refusal(fault.code, about))?
            }
            RoutePayload::Deposit(deposit) => {
                if let Some(served) = channel.served.get(id.as_str()) {
                    return replay(served, &identity);
                }
                if !living {
                    return Err(Refusal(Code::OfferExpired, None));
                }
                if deposit.funding_outpoint != channel.outpoint {
                    return Err(Refusal(Code::VoucherStaleOutpoint, about));
                }
                self.authorise_deposit(deposit, channel, ceiling).map_err(|fault| Refusal(fault.code, about))?
            }
        };
        match channel.used.get(&token) {
            Some(by) if by != id.as_str() => return Err(Refusal(Code::OfferReused, None)),
            _ => channel.used.insert(token, id.as_str().to_owned()),
        };
        let (charge, how) = cost(target, ceiling);
        let before = channel.idle.as_ref().unwrap().accounts().parts();
        let charged = channel.idle.clone().unwrap().charge(verified.authorised(), sompi(charge)).unwrap();
        let after = charged.accounts().parts();
        let origin = self.origin.lock().unwrap().clone();
        let shift = self.mood.lock().unwrap().shift;
        let shifted = |amount: Amount| sompi(amount.sompi().saturating_add_signed(shift));
        let commitment = Commitment {
            channel: channel_id,
            request_hash: fingerprint::request_hash(method, &format!("{origin}{target}"), body, &envelope.accepted),
            requirements_hash: requirements_hash(&envelope.accepted),
            outpoint: channel.outpoint,
            voucher: presented,
            charge: sompi(charge),
            charged_before: shifted(before.charged),
            charged_after: shifted(after.charged),
            claimed: after.claimed,
        };
        (channel.idle, channel.voucher) = (Some(charged), Some(presented));
        let commitment = commitment.id();
        let mut said = state(channel);
        said["chargedCumulativeAmount"] = json!(shifted(after.charged));
        inside.ledger.push(Charged { channel: channel_id, identifier: id.clone(), charge });
        let stingy = self.mood.lock().unwrap().stingy;
        let offer = if stingy { Value::Null } else { self.requirements(inside, target, ceiling, None) };
        let mut receipt = json!({
            "success": true, "transaction": commitment, "network": "kaspa:simnet", "amount": charge.to_string(),
            "extensions": {"kaspa": {"commitmentId": commitment, "chargedAmount": charge.to_string(), "channelState": said, "offer": offer}},
        });
        let mood = self.mood.lock().unwrap();
        if let Some(change) = &mood.receipt {
            change(&mut receipt);
        }
        let answer = match how {
            How::Header if mood.mute => Answer::new(200).body("the goods"),
            How::Header => Answer::new(200).field("payment-response", encoded(&receipt)).body("the goods"),
            How::Event => {
                provisional(&origin, channel_id, &id).body(format!("data: goods\n\nevent: payment-response\ndata: {receipt}\n\n"))
            }
            How::Trailer => {
                let answer = provisional(&origin, channel_id, &id).body("data: goods\n\n");
                Answer { trailers: vec![("payment-response", encoded(&receipt))], ..answer }
            }
            How::Url | How::Silent => provisional(&origin, channel_id, &id).body("data: goods\n\n"),
        };
        let kept = if matches!(how, How::Silent | How::Trailer) || mood.mute { Value::Null } else { receipt };
        let served = Served { identity, answer: answer.clone(), receipt: kept };
        let channel = inside.channels.get_mut(&channel_id).unwrap();
        channel.served.insert(id.as_str().to_owned(), served);
        Ok(answer)
    }

    fn authorise_deposit(&self, deposit: &DepositVoucher, channel: &Channel, ceiling: u64) -> Result<VerifiedVoucher, envelope::Fault> {
        let config = &channel.config;
        let terms = EscrowTerms::of_channel(config);
        verify_deposit(deposit, &terms, &self.rules)?.authorise(channel.idle.as_ref().unwrap().accounts(), sompi(ceiling))
    }

    /// Opens or tops up; what is done already is left alone.
    async fn deposit(&self, inside: &mut Inside, deposit: &DepositVoucher, accepted: &Requirements) -> Result<(), Refusal> {
        if let Some(channel) = inside.channels.get_mut(&deposit.channel_id) {
            return self.top_up(channel, deposit).await;
        }
        let Extra::Escrow(extra) = &accepted.extra else { panic!("a channel offer") };
        let timeout_daa = self.mood.lock().unwrap().timeout_daa;
        let terms = EscrowTerms { refund_timeout_daa: timeout_daa, ..EscrowTerms::of(accepted, extra) };
        let verified = verify_deposit(deposit, &terms, &self.rules)?;
        let script = verified.script().clone();
        if inside.channels.values().any(|other| other.script == script) {
            return Err(Refusal(Code::ScriptInUse, None));
        }
        let _ = verified.authorise(&Accounts::opened(verified.funding()), accepted.amount)?;
        self.accepted(verified.transaction().expect("the buyer sends it along")).await;
        if self.mood.lock().unwrap().unconfirmed {
            return Err(Refusal(Code::DepositNotConfirmed, None));
        }
        let channel = Channel {
            config: verified.config().clone(),
            script,
            outpoint: verified.outpoint(),
            previous: None,
            idle: Some(Idle::opened(verified.funding())),
            voucher: None,
            served: HashMap::new(),
            used: HashMap::new(),
        };
        inside.channels.insert(deposit.channel_id, channel);
        Ok(())
    }

    async fn top_up(&self, channel: &mut Channel, deposit: &DepositVoucher) -> Result<(), Refusal> {
        let Some(hex) = &deposit.funding_transaction else { return Ok(()) };
        let transaction = decode::decode(hex).map_err(|_| Refusal(Code::FundingTransaction, None))?;
        let first = transaction.inputs.first().map(|input| Outpoint::from(input.previous_outpoint));
        if first != Some(channel.outpoint) {
            return Ok(());
        }
        let about = Some(deposit.channel_id);
        let parts = channel.idle.as_ref().unwrap().accounts().parts();
        let takes = channel.idle.as_ref().unwrap().accounts().active();
        let escrow = Escrow { script: &channel.script, outpoint: channel.outpoint, funding: parts.funding };
        let checked = check_top_up(transaction, escrow, takes, None, &self.rules).map_err(|fault| Refusal(fault.code, about))?;
        let added = checked.added();
        let voucher = channel.voucher.ok_or(Refusal(Code::TopUpNothingToClaim, about))?;
        let signed = checked.sign(escrow, &voucher, |digest| self.key.sign(digest)).unwrap();
        self.accepted(&signed.transaction).await;
        let idle = channel.idle.clone().unwrap().top_up(added).unwrap().accepted().0;
        self.moved(channel, &signed, idle);
        Ok(())
    }

    pub fn server_key(&self) -> XOnlyKey {
        self.key.public()
    }
}

fn replay(served: &Served, identity: &(String, String, Vec<u8>)) -> Result<Answer, Refusal> {
    if served.identity == *identity { Ok(served.answer.clone()) } else { Err(Refusal(Code::IdentifierReused, None)) }
}

fn provisional(origin: &str, channel: ChannelId, id: &PaymentIdentifier) -> Answer {
    let url = format!("{origin}/.well-known/kas402/receipts/{channel}/{}", id.as_str());
    let head = json!({"success": true, "transaction": "", "extensions": {"kaspa": {"status": "provisional", "receiptUrl": url}}});
    Answer::new(200).field("content-type", "text/event-stream").field("payment-response", encoded(&head))
}

fn state(channel: &Channel) -> Value {
    let parts = channel.idle.as_ref().unwrap().accounts().parts();
    json!({
        "activeOutpoint": channel.outpoint, "activeScriptPublicKey": channel.script.serialized(), "channelId": channel.config.channel_id(),
        "chargedCumulativeAmount": parts.charged, "claimedCumulativeAmount": parts.claimed, "fundingAmount": parts.funding,
        "signedMaxClaimable": parts.signed,
    })
}

fn requirements_hash(accepted: &Requirements) -> [u8; 32] {
    let Extra::Escrow(extra) = &accepted.extra else { panic!("a channel offer") };
    kas402::binding::escrow_v1::hashes::BatchTerms::of(accepted, extra).hash()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Header,
    Event,
    Trailer,
    Url,
    Silent,
}

fn ceiling(target: &str, body: &[u8]) -> Option<u64> {
    let mut parts = target.trim_start_matches('/').split('/');
    match parts.next()? {
        "pay" | "stream" => parts.next()?.parse().ok(),
        "model" => std::str::from_utf8(body).ok()?.parse().ok(),
        _ => None,
    }
}

fn cost(target: &str, ceiling: u64) -> (u64, How) {
    let parts: Vec<&str> = target.trim_start_matches('/').split('/').collect();
    let how = match parts[..] {
        ["stream", _, _, "event"] => How::Event,
        ["stream", _, _, "trailer"] => How::Trailer,
        ["stream", _, _, "url"] => How::Url,
        ["stream", _, _, _] => How::Silent,
        _ => How::Header,
    };
    (parts.get(2).and_then(|charge| charge.parse().ok()).unwrap_or(ceiling), how)
}

pub fn encoded(message: &Value) -> String {
    header::encode(message).to_str().unwrap().to_owned()
}

/// What a payment header promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub header: String,
    pub channel: ChannelId,
    pub identifier: PaymentIdentifier,
    pub outpoint: Outpoint,
    pub voucher: SignedVoucher,
    pub ceiling: u64,
    pub deposit: Option<Box<DepositVoucher>>,
}

impl Promise {
    pub fn read(payment: &str) -> Self {
        let envelope = envelope::decode(payment.as_bytes()).expect("a valid envelope");
        let identifier = identifier::read(&envelope.extensions, true).expect("echoed").expect("required");
        let (channel, outpoint, voucher, deposit) = match payload::parse(envelope.payload).unwrap().on_route().unwrap() {
            RoutePayload::Deposit(deposit) => (deposit.channel_id, deposit.funding_outpoint, deposit.voucher, Some(deposit)),
            RoutePayload::Voucher(voucher) => (voucher.channel_id, voucher.funding_outpoint, voucher.voucher, None),
        };
        let ceiling = envelope.accepted.amount.sompi();
        Self { header: payment.to_owned(), channel, identifier, outpoint, voucher, ceiling, deposit }
    }
}
