//! Clients that pay from channels: honest ones who keep their own books and follow corrections that fit them, impatient ones, and some
//! who sign too little, bring one output twice, name two requests alike, or take their money back as soon as the script allows it.

use crate::{
    exchange::{Ask, Got},
    ledger::Signed,
    shop::{CEILING, MIN_DEPOSIT, sompi},
    shopper::{new_coin, sign as pay_to_script, spend_again, wallet},
    world::{Reply, World},
};
use kas402::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, SignedVoucher, TemplateId,
        payload::{BatchPayload, ChannelVoucher, DepositVoucher},
        spend::{Coin, Escrow, SpendRules, plan_refund, plan_top_up},
    },
    gateway::answer::StreamChunk,
    protocol::{
        ids::{ChannelId, Outpoint, Salt, XOnlyKey},
        network::Network,
        requirements::Asset,
    },
    wire::{header, headers, identifier},
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    tx::{PopulatedTransaction, Transaction, UtxoEntry},
};
use secp256k1::{Keypair, Message, SECP256K1};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

fn rules() -> SpendRules {
    SpendRules::of(Network::Simnet)
}

fn sign(keypair: &Keypair, digest: &[u8; 32]) -> [u8; 64] {
    SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), keypair).serialize()
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// One channel, and what its client knows of it.
struct Channel {
    name: String,
    keypair: Keypair,
    config: ChannelConfig,
    script: Arc<EscrowScript>,
    outpoint: Outpoint,
    funding: u64,
    deposit: Transaction,
    /// Sent with requests until the gateway answered one.
    opening: bool,
    /// The client brought the deposit to the network itself.
    sent: bool,
    /// And spends the coin of the deposit again.
    crooked: bool,
    charged: u64,
    claimed: u64,
    signed: u64,
}

impl Channel {
    fn id(&self) -> ChannelId {
        self.config.channel_id()
    }

    fn active(&self) -> u64 {
        self.charged.saturating_sub(self.claimed)
    }

    fn escrow(&self) -> Escrow<'_> {
        Escrow { script: &self.script, outpoint: self.outpoint, funding: sompi(self.funding) }
    }

    fn voucher(&self, outpoint: Outpoint, amount: u64) -> SignedVoucher {
        SignedVoucher::sign(&self.script, outpoint, sompi(amount), |digest| sign(&self.keypair, digest))
    }

    fn deposit_payload(&self, transaction: Option<&Transaction>, outpoint: Outpoint, funding: u64, amount: u64) -> BatchPayload {
        BatchPayload::DepositVoucher(Box::new(DepositVoucher {
            channel_config: self.config.clone(),
            channel_id: self.id(),
            escrow_address: self.script.address().to_string(),
            funding_transaction: transaction.map(|transaction| hex::encode(borsh::to_vec(transaction).unwrap())),
            funding_outpoint: outpoint,
            funding_amount_sompi: sompi(funding),
            active_script_public_key: self.script.serialized(),
            voucher: self.voucher(outpoint, amount),
        }))
    }

    fn voucher_payload(&self, amount: u64) -> BatchPayload {
        BatchPayload::Voucher(Box::new(ChannelVoucher {
            channel_id: self.id(),
            client_public_key: self.config.client_public_key,
            funding_outpoint: self.outpoint,
            active_script_public_key: self.script.serialized(),
            voucher: self.voucher(self.outpoint, amount),
        }))
    }

    /// What the gateway says of the channel, as far as it fits what the client asked for.
    fn follow(&mut self, world: &World, state: &Value) {
        let charged = number(&state["chargedCumulativeAmount"]);
        world.ledger.told_charged(world, &self.id(), charged);
        if charged < self.charged {
            world.trace.wrong(format!("{}: its client is told of {charged} charged after {}", self.name, self.charged));
        }
        self.charged = charged;
        self.claimed = number(&state["claimedCumulativeAmount"]);
        self.signed = number(&state["signedMaxClaimable"]);
        self.funding = number(&state["fundingAmount"]);
        if let Ok(outpoint) = serde_json::from_value(state["activeOutpoint"].clone()) {
            self.outpoint = outpoint;
        }
    }

    /// What everybody can see on the chain.
    fn look(&mut self, world: &World) {
        if let Some((outpoint, funding, claimed)) = world.ledger.frontier(world, &self.id())
            && outpoint != self.outpoint
        {
            (self.outpoint, self.funding, self.claimed, self.signed) = (outpoint, funding, claimed, 0);
        }
    }
}

fn message(accepted: &Value, payload: &BatchPayload, id: &str) -> Value {
    let mut message = json!({"x402Version": 2, "accepted": accepted, "payload": payload, "extensions": {}});
    message["extensions"][identifier::NAME] = identifier::advertise(true).clone();
    message["extensions"][identifier::NAME]["info"]["id"] = id.into();
    message
}

async fn offer(world: &Arc<World>, ask: &Ask) -> Option<Value> {
    while !world.is_over() && !world.trace.is_wrong() {
        if let Reply::Got(got) = world.send(world.any_slot(), ask.clone()).await
            && let Some(offer) = got.offer("batch-settlement")
        {
            return Some(offer);
        }
        sleep(Duration::from_millis(world.dice.between(300, 3_000))).await; // why: time passes in the simulation, not here
    }
    None
}

fn open(world: &Arc<World>, who: usize, accepted: &Value) -> Channel {
    let secret = [u8::try_from(who + 30).unwrap(); 32];
    let keypair = Keypair::from_seckey_slice(SECP256K1, &secret).unwrap();
    let extra = &accepted["extra"];
    let mut salt = [0; 32];
    salt[..8].copy_from_slice(&world.ledger.number().to_be_bytes());
    let config = ChannelConfig {
        network: Network::Simnet,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: XOnlyKey(keypair.x_only_public_key().0.serialize()),
        server_public_key: extra["serverPublicKey"].as_str().unwrap().parse().unwrap(),
        pay_to: accepted["payTo"].as_str().unwrap().into(),
        refund_address: wallet(who).address().to_string(),
        refund_timeout_daa: number(&extra["refundTimeoutDaa"]),
        salt: Salt(salt),
    };
    let script = Arc::new(EscrowScript::of(&config).unwrap());
    let funding = MIN_DEPOSIT + world.dice.roll(4) * CEILING;
    let coin = new_coin(world, who);
    let signed = pay_to_script(who, &coin, &script.address().to_string(), funding);
    let outpoint = Outpoint { txid: signed.txid, index: signed.payment_output_index };
    let timeout = config.refund_timeout_daa;
    let name = world.ledger.opens(config.channel_id(), outpoint, funding, timeout);
    let sent = world.dice.one_in(4);
    world.trace.note(format!("client {who}: makes {name} until {timeout}{}", if sent { ", and sends its deposit" } else { "" }));
    world.trace.reached("channel made");
    let crooked = !world.is_calm() && world.dice.permille(world.weather.double_spends / 3);
    if crooked {
        world.trace.reached("deposit spent again");
        spend_again(world, who, &coin, &signed.transaction);
    }
    if sent {
        if crooked { drop(world.net.take(&signed.transaction)) } else { world.net.keep(&signed.transaction) }
    }
    Channel {
        name,
        keypair,
        config,
        script,
        outpoint,
        funding,
        deposit: signed.transaction,
        opening: true,
        sent: sent && !crooked,
        crooked,
        charged: 0,
        claimed: 0,
        signed: 0,
    }
}

/// A transaction that adds to a channel and settles what it owes.
fn top_up(world: &Arc<World>, who: usize, channel: &Channel) -> Option<(Transaction, Outpoint, u64)> {
    let coin = new_coin(world, who);
    let own = wallet(who);
    let entry = UtxoEntry::new(coin.amount.sompi(), own.script(), 1, false, None);
    let coin = Coin { outpoint: coin.outpoint, entry };
    let plan = plan_top_up(channel.escrow(), sompi(channel.active()), &[coin], &rules()).ok()?;
    let mut transaction = plan.transaction;
    let populated = PopulatedTransaction::new(&transaction, plan.entries.clone());
    let digest = calc_schnorr_signature_hash(&populated, 1, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes();
    transaction.inputs[1].signature_script = [&[65][..], &own.sign_digest(&digest, &[0; 32]), &[SIG_HASH_ALL.to_u8()]].concat();
    let (continuation, funding) = (Outpoint { txid: transaction.id().into(), index: 1 }, transaction.outputs[1].value);
    world.ledger.tops_up(world, &transaction, channel.active());
    Some((transaction, continuation, funding))
}

/// An answer with all of its body, and its last word about the charge; `None`: cut, or nobody waited.
async fn read(world: &Arc<World>, mut got: Got) -> Option<(Got, Option<Value>)> {
    let told = got.receipt();
    let Some(mut stream) = got.stream.take() else { return Some((got, told)) };
    world.trace.reached("channel stream");
    let leaves = !world.is_calm() && world.dice.permille(world.weather.hang_ups);
    let slow = world.dice.one_in(6);
    let mut body = Vec::new();
    loop {
        match stream.recv().await {
            Some(StreamChunk::Data(data)) => body.extend_from_slice(&data),
            Some(StreamChunk::End { trailers }) => {
                got.answer.body = body.into();
                let trailer = trailers.and_then(|trailers| header::decode(trailers.get(headers::PAYMENT_RESPONSE)?.as_bytes()).ok());
                return Some((got, trailer));
            }
            None => return None,
        }
        if leaves && world.dice.one_in(3) {
            world.trace.reached("client left a charged stream");
            return None;
        }
        if slow {
            sleep(Duration::from_millis(world.dice.between(10, 2_000))).await; // why: time passes in the simulation, not here
        }
    }
}

async fn send(world: &Arc<World>, who: usize, channel: &Channel, id: &str, paying: Ask) -> Option<(Got, Option<Value>)> {
    let impatient = !world.is_calm() && world.dice.permille(world.weather.hang_ups);
    let request = world.send(world.any_slot(), paying);
    let reply = if impatient {
        match timeout(Duration::from_millis(world.dice.between(1, 6_000)), request).await {
            Ok(reply) => reply,
            Err(_) => {
                world.trace.note(format!("client {who}: hangs up"));
                return None;
            }
        }
    } else {
        request.await
    };
    let Reply::Got(got) = reply else {
        world.trace.note(format!("client {who}: connection reset"));
        return None;
    };
    let (got, told) = read(world, got).await?;
    let code = got.code();
    world.trace.note(format!("client {who}: {} {code} for {id} of {}", got.status(), channel.name));
    world.trace.reached(format!("channel answer {} {}", got.status(), if got.status() < 400 { "-" } else { &code }));
    world.ledger.channel_answered(world, &channel.id(), id, &got, told.as_ref()).await;
    Some((got, told))
}

pub async fn live(world: Arc<World>, who: usize) {
    let requests = world.dice.between(4, 14);
    let takes_back = world.dice.one_in(2);
    let mut channel: Option<Channel> = None;
    let mut old = Vec::new();
    for _ in 0..requests {
        sleep(Duration::from_millis(if world.dice.one_in(4) { world.dice.between(0, 15_000) } else { world.dice.between(0, 2_000) })).await; // why: time passes in the simulation, not here
        if world.is_over() || world.trace.is_wrong() {
            return;
        }
        request(&world, who, &mut channel, &mut old).await;
    }
    old.extend(channel);
    if !takes_back {
        return;
    }
    for channel in old {
        take_back(&world, who, channel).await;
    }
}

/// The money that is left, as soon as the script gives it back.
async fn take_back(world: &Arc<World>, who: usize, channel: Channel) {
    let timeout = channel.config.refund_timeout_daa;
    while world.net.tip().daa_score <= timeout {
        if world.trace.is_wrong() {
            return;
        }
        sleep(Duration::from_secs(1)).await; // why: time passes in the simulation, not here
    }
    for _ in 0..20 {
        let Some((outpoint, funding, _)) = world.ledger.frontier(world, &channel.id()) else { return };
        if world.net.is_unspent(&outpoint) {
            let escrow = Escrow { script: &channel.script, outpoint, funding: sompi(funding) };
            let Ok(plan) = plan_refund(escrow, &rules()) else { return };
            let (txid, transaction) = plan.sign(escrow, |digest| sign(&channel.keypair, digest));
            world.ledger.called(txid, format!("refund of {}", channel.name));
            world.net.locked_until(txid, timeout);
            world.trace.note(format!("client {who}: takes back {}", channel.name));
            world.net.take(&transaction);
        } else if !world.net.is_accepted(&outpoint.txid) {
            // It never was, or a reorganisation has it now: nobody waits for that.
            return;
        }
        sleep(Duration::from_secs(2)).await; // why: time passes in the simulation, not here
    }
}

/// One request, until it is answered or its client gives up.
async fn request(world: &Arc<World>, who: usize, channel: &mut Option<Channel>, old: &mut Vec<Channel>) {
    let n = world.ledger.number();
    let path = if world.dice.one_in(2) { "fixed" } else { "metered" };
    let ask = Ask::get(&format!("/{path}?n={n}"));
    let mut id = format!("identifier-{n:08}");
    let patience = if world.dice.one_in(4) { world.dice.between(1, 3) } else { u64::MAX };
    let wants_top_up = world.dice.one_in(6);
    let mut accepted = None;
    let mut tries = 0;
    // The same bytes again, as long as nothing says that they are stale.
    let mut header: Option<Ask> = None;
    loop {
        if world.trace.is_wrong() || tries >= patience {
            return;
        }
        tries += 1;
        if header.is_none() {
            let Some(terms) = (match accepted.take() {
                Some(accepted) => Some(accepted),
                None => offer(world, &ask).await,
            }) else {
                return;
            };
            let channel = channel.get_or_insert_with(|| open(world, who, &terms));
            let amount = channel.signed.max(channel.active() + CEILING);
            let signed = |outpoint, amount| Signed { outpoint, amount, ceiling: CEILING, target: ask.target.clone() };
            let payload = if channel.opening {
                world.ledger.signs(&channel.id(), &id, signed(channel.outpoint, CEILING));
                let bytes = (!channel.sent || world.dice.one_in(2)).then_some(&channel.deposit);
                channel.deposit_payload(bytes, channel.outpoint, channel.funding, CEILING)
            } else if wants_top_up
                && tries == 1
                && channel.active() > 0
                && let Some((transaction, continuation, funding)) = top_up(world, who, channel)
            {
                world.trace.note(format!("client {who}: tops up {}", channel.name));
                world.trace.reached("top-up tried");
                world.ledger.signs(&channel.id(), &id, signed(continuation, CEILING));
                channel.deposit_payload(Some(&transaction), continuation, funding, CEILING)
            } else {
                let short = world.dice.one_in(25);
                let amount = if short { amount - 1 } else { amount };
                if short {
                    world.trace.reached("voucher too small");
                }
                world.ledger.signs(&channel.id(), &id, signed(channel.outpoint, amount));
                channel.voucher_payload(amount)
            };
            header = Some(ask.clone().paying(&message(&terms, &payload, &id)));
            if world.dice.one_in(10) && channel.opening {
                second_channel(world, who, channel, &terms).await;
            }
        }
        let paying = header.clone().expect("just written");
        let mine = channel.as_mut().expect("opened above");
        let Some((got, told)) = send(world, who, mine, &id, paying.clone()).await else {
            sleep(Duration::from_millis(world.dice.between(100, 3_000))).await; // why: time passes in the simulation, not here
            continue;
        };
        let code = got.code();
        if mine.crooked && got.status() >= 400 && world.dice.one_in(4) {
            // Its money may be gone, and its client knows why.
            old.extend(channel.take());
            return;
        }
        let receipt = told.filter(|receipt| receipt["success"] == true);
        match (got.status(), code.as_str()) {
            (200 | 404, _) if receipt.is_some() => {
                let state = receipt.expect("just seen")["extensions"]["kaspa"]["channelState"].clone();
                // A replay tells of the past.
                if state.is_object() && number(&state["chargedCumulativeAmount"]) >= mine.charged {
                    mine.follow(world, &state);
                }
                mine.opening = false;
                world.trace.reached("channel served");
                if world.dice.one_in(6) {
                    send(world, who, mine, &id, paying).await;
                    world.trace.reached("channel replay tried");
                }
                if world.dice.one_in(15) {
                    // Another request under the identifier of this one.
                    let other = Ask::get(&format!("/{path}?n={}", world.ledger.number()));
                    if let Some(terms) = offer(world, &other).await {
                        let amount = mine.signed.max(mine.active() + CEILING);
                        let payload = mine.voucher_payload(amount);
                        send(world, who, mine, &id, other.paying(&message(&terms, &payload, &id))).await;
                        world.trace.reached("identifier used twice");
                    }
                }
                return;
            }
            // Charged already, and the answer is not kept.
            (410, _) => {
                mine.opening = false;
                return;
            }
            (402, "channel_closed" | "refund_window" | "channel_balance" | "deposit_spent" | "invalid_kaspa_escrow_refund_timeout") => {
                world.trace.reached("channel given up");
                old.extend(channel.take());
                (accepted, header, id) = (None, None, format!("identifier-{:08}", world.ledger.number()));
            }
            (402, _) => {
                let offer = got.offer("batch-settlement");
                let state = offer.as_ref().map(|offer| offer["extra"]["channelState"].clone()).filter(Value::is_object);
                match state {
                    Some(state) => {
                        mine.opening = false;
                        mine.follow(world, &state);
                        world.trace.reached("corrected");
                    }
                    None => mine.look(world),
                }
                if code == "channel_unknown" && !mine.opening && mine.charged == 0 && mine.claimed == 0 {
                    mine.opening = true;
                }
                (accepted, header) = (offer, None);
            }
            (409, "payment_in_flight") | (500 | 502 | 503 | 504, _) => {
                // Nothing says that it is stale, but a fresh offer is as good.
                if code == "upstream_failed" || world.dice.one_in(4) {
                    (accepted, header) = (None, None);
                }
            }
            // Its output backs the channel that was meant to cheat.
            (409, "script_in_use" | "outpoint_in_use" | "invalid_kaspa_exact_replay") => {
                old.extend(channel.take());
                (accepted, header, id) = (None, None, format!("identifier-{:08}", world.ledger.number()));
            }
            (status, code) => {
                world.trace.wrong(format!("client {who}: {status} {code} for an honest {id} of {}", mine.name));
                return;
            }
        }
        sleep(Duration::from_millis(world.dice.between(200, 3_000))).await; // why: time passes in the simulation, not here
    }
}

/// The same output under another channel.
async fn second_channel(world: &Arc<World>, who: usize, first: &Channel, terms: &Value) {
    let mut config = first.config.clone();
    let n = world.ledger.number();
    config.salt.0[24..].copy_from_slice(&n.to_be_bytes());
    let id = format!("identifier-{n:08}");
    let ask = Ask::get(&format!("/fixed?n={n}"));
    let Some(accepted) = offer(world, &ask).await else { return };
    if accepted["extra"]["refundTimeoutDaa"] != terms["extra"]["refundTimeoutDaa"] {
        return;
    }
    let name = world.ledger.opens(config.channel_id(), first.outpoint, first.funding, first.config.refund_timeout_daa);
    let second = Channel {
        name,
        keypair: first.keypair,
        config,
        script: first.script.clone(),
        outpoint: first.outpoint,
        funding: first.funding,
        deposit: first.deposit.clone(),
        opening: true,
        sent: false,
        crooked: first.crooked,
        charged: 0,
        claimed: 0,
        signed: 0,
    };
    let signed = Signed { outpoint: second.outpoint, amount: CEILING, ceiling: CEILING, target: ask.target.clone() };
    world.ledger.signs(&second.id(), &id, signed);
    let payload = second.deposit_payload(Some(&second.deposit), second.outpoint, second.funding, CEILING);
    world.trace.note(format!("client {who}: {} over the output of {}", second.name, first.name));
    world.trace.reached("second channel tried");
    let paying = ask.paying(&message(&accepted, &payload, &id));
    let world = world.clone();
    tokio::spawn(async move { drop(send(&world, who, &second, &id, paying).await) });
}
