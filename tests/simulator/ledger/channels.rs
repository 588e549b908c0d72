//! Channels: what their clients signed and asked for, what the chain moved, and what the store charged.

use super::{Ledger, State, jobs::Progress};
use crate::{
    exchange::Got,
    net::inputs,
    shop,
    world::{Life, World},
};
use kas402::{
    protocol::ids::{ChannelId, Outpoint, PaymentIdentifier, TxId},
    store::channels::{ChannelFact, ChannelQuery, ChannelRecord, ChannelSelection, ChannelStep, ChargeRecord},
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// So long after a reorganisation took its deposit a channel may be served: by requests that were admitted before it, and wait for their
/// reservation or their connection.
const ADMITTED_BEFORE: Duration = Duration::from_secs(5);
/// So long a record may not know it: the store may be slow, or silent once.
const RECORDED_AFTER: Duration = Duration::from_secs(30);

/// A voucher that a client gave away, and for what.
#[derive(Clone, Debug)]
pub struct Signed {
    pub outpoint: Outpoint,
    pub amount: u64,
    pub ceiling: u64,
    pub target: String,
}

#[derive(Debug)]
pub(super) struct Channel {
    name: String,
    deposit: Outpoint,
    timeout: u64,
    /// By identifier; one that is sent again under a new offer has several.
    requests: BTreeMap<String, Vec<Signed>>,
    /// Charges as they were last seen.
    rows: BTreeMap<String, u64>,
    /// What receipts said.
    acknowledged: BTreeMap<String, u64>,
    running: Option<(u64, String)>,
    /// Taken on the chain: never more than is charged.
    taken: Vec<u64>,
    refunded: bool,
    /// The highest voucher that its client ever signed for an outpoint.
    signed: BTreeMap<Outpoint, u64>,
}

/// An output under a channel's script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escrow {
    channel: ChannelId,
    value: u64,
    /// What claims and top-ups took on the way to it.
    taken: u64,
}

fn request_of(key: &str) -> Option<(ChannelId, &str)> {
    let (channel, identifier) = key.strip_prefix("kas402-")?.split_once('-')?;
    Some((channel.parse().ok()?, identifier))
}

fn key_of(channel: &ChannelId, identifier: &str) -> String {
    format!("kas402-{channel}-{identifier}")
}

impl State {
    /// What a transaction makes of an escrow that it spends.
    fn learn(&mut self, net: &crate::net::Net, transaction: &Transaction) -> Option<Outpoint> {
        let spent: Vec<Outpoint> = inputs(transaction).collect();
        let escrow = self.escrows.get(spent.first()?).copied()?;
        let txid = TxId::from(transaction.id());
        let continuation = Outpoint { txid, index: 1 };
        let output = transaction.outputs.get(1)?;
        let added: u64 = spent[1..].iter().filter_map(|input| net.value(input)).sum();
        // What a client adds pays for its own weight: of a top-up the client says what it lets go.
        let takes = match self.top_ups.get(&txid) {
            Some(takes) => *takes,
            None => (escrow.value + added).checked_sub(output.value)?,
        };
        self.escrows.entry(continuation).or_insert(Escrow { taken: escrow.taken + takes, value: output.value, ..escrow });
        if !self.names.contains_key(&txid) {
            let kind = if added > 0 { "top-up" } else { "claim" };
            let name = format!("{kind} of {} over {}", takes, self.channels[&escrow.channel].name);
            self.names.insert(txid, name);
        }
        Some(continuation)
    }
}

impl Ledger {
    pub fn channel_name(&self, id: &ChannelId) -> String {
        self.state().channels.get(id).map_or_else(|| "c?".to_owned(), |channel| channel.name.clone())
    }

    /// A client made a channel, perhaps over an output that backs another.
    pub fn opens(&self, id: ChannelId, deposit: Outpoint, value: u64, timeout: u64) -> String {
        let mut state = self.state();
        let name = format!("c{}", state.channels.len() + 1);
        state.names.entry(deposit.txid).or_insert_with(|| format!("deposit of {name}"));
        state.escrows.entry(deposit).or_insert(Escrow { channel: id, value, taken: 0 });
        let channel = Channel {
            name: name.clone(),
            deposit,
            timeout,
            requests: BTreeMap::new(),
            rows: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            running: None,
            taken: Vec::new(),
            refunded: false,
            signed: BTreeMap::new(),
        };
        state.channels.insert(id, channel);
        name
    }

    /// A client gives a voucher away for a request.
    pub fn signs(&self, id: &ChannelId, identifier: &str, signed: Signed) {
        let mut state = self.state();
        let channel = state.channels.get_mut(id).expect("opened before it is signed for");
        let highest = channel.signed.entry(signed.outpoint).or_default();
        *highest = signed.amount.max(*highest);
        channel.requests.entry(identifier.to_owned()).or_default().push(signed);
    }

    /// A client signs a top-up that settles so much.
    pub fn tops_up(&self, world: &World, transaction: &Transaction, takes: u64) {
        let mut state = self.state();
        state.top_ups.insert(transaction.id().into(), takes);
        state.learn(&world.net, transaction);
    }

    /// A transaction that spends an escrow, perhaps.
    pub fn learns(&self, world: &World, transaction: &Transaction) {
        self.state().learn(&world.net, transaction);
    }

    /// Where the chain has the channel: the outpoint, what it holds, what was taken; `None` when it is gone.
    pub fn frontier(&self, world: &World, id: &ChannelId) -> Option<(Outpoint, u64, u64)> {
        let mut at = self.state().channels[id].deposit;
        loop {
            let Some(spender) = world.net.spender(&at) else {
                let escrow = self.state().escrows[&at];
                return Some((at, escrow.value, escrow.taken));
            };
            let transaction = world.net.transaction(&spender)?;
            at = self.state().learn(&world.net, &transaction)?;
        }
    }

    pub fn channel_trouble(&self, id: &ChannelId) {
        let mut state = self.state();
        let Some((_, key)) = state.channels.get(id).and_then(|channel| channel.running.clone()) else { return };
        state.job(&key).trouble = true;
    }

    pub(super) async fn is_of_a_channel(&self, world: &World, txid: &TxId) -> bool {
        let records = all(world).await;
        records.iter().any(|record| record.deposit.outpoint.txid == *txid || record.moves.iter().any(|step| step.txid == *txid))
    }

    pub(super) fn escrow_spent(&self, world: &World, txid: &TxId, transaction: &Transaction, spent: &[Outpoint]) {
        let mut state = self.state();
        let Some((outpoint, escrow)) = spent.iter().find_map(|input| Some((*input, *state.escrows.get(input)?))) else { return };
        let continuation = if transaction.outputs.len() == 2 { state.learn(&world.net, transaction) } else { None };
        let name = state.names.get(txid).cloned().unwrap_or_default();
        let Some(continuation) = continuation else {
            state.channels.get_mut(&escrow.channel).expect("an escrow is a channel's").refunded = true;
            drop(state);
            world.trace.reached("refund accepted");
            return;
        };
        let after = state.escrows[&continuation];
        let takes = after.taken - escrow.taken;
        let pay_to = kaspa_txscript::pay_to_address_script(&Address::try_from(shop::payee().as_str()).expect("an address"));
        let channel = state.channels.get_mut(&escrow.channel).expect("an escrow is a channel's");
        channel.taken.push(after.taken);
        let highest = channel.signed.get(&outpoint).copied().unwrap_or(0);
        drop(state);
        world.trace.reached(if name.starts_with("top-up") { "top-up accepted" } else { "claim accepted" });
        if takes > highest {
            world.trace.wrong(format!("{name} takes {takes}, its client signed {highest}"));
        }
        if transaction.outputs[0].script_public_key != pay_to {
            world.trace.wrong(format!("{name} does not pay the recipient"));
        }
    }

    pub(super) async fn may_run_request(&self, world: &World, life: &Life, key: &str, target: &str) -> Result<(), String> {
        let (id, identifier) = request_of(key).ok_or("no request is named")?;
        let parsed = PaymentIdentifier::parse(identifier).map_err(|_| "no identifier")?;
        let row = world.store.charge(&id, &parsed).await.ok().flatten();
        let rows = world.store.charges(&id, 0, 10_000).await.unwrap_or_default();
        let deposit = self.state().channels.get(&id).ok_or("nobody opened this channel")?.deposit;
        let (seen, gone) = (world.net.first_seen(&deposit.txid), world.net.gone_for(&deposit.txid));
        let daa = world.net.tip().daa_score;
        let mut state = self.state();
        let channel = &state.channels[&id];
        let asked = channel.requests.get(identifier).and_then(|asked| asked.iter().rev().find(|signed| signed.target == target));
        let asked = asked.cloned().ok_or("its client never asked for that under this identifier")?;
        if row.is_some() {
            return Err("it is charged already".into());
        }
        if seen.is_none_or(|depth| depth < shop::CONFIRMATIONS) {
            return Err(format!("its deposit was accepted {seen:?} blocks ago"));
        }
        if gone > ADMITTED_BEFORE {
            return Err(format!("a reorganisation took its deposit {} s ago", gone.as_secs()));
        }
        if daa + shop::REFUND_LEAD / 2 >= channel.timeout {
            return Err(format!("its client may refund from {}, it is {daa}", channel.timeout));
        }
        let charged: u64 = rows.iter().map(|row| row.charge.sompi()).sum();
        // Whatever voucher came with it: one of those that were signed for this request has to cover it.
        let covers = |signed: &Signed| {
            let escrow = state.escrows.get(&signed.outpoint)?;
            let owed = (charged + signed.ceiling).checked_sub(escrow.taken)?;
            (signed.amount >= owed && signed.amount <= escrow.value).then_some(())
        };
        if channel.requests[identifier].iter().all(|signed| covers(signed).is_none()) {
            return Err(format!("no voucher covers it: charged {charged}, asked {asked:?}"));
        }
        let running = channel.running.clone().filter(|(other, _)| !state.dead.contains(other));
        if let Some((_, other)) = running {
            return Err(format!("the channel serves {other}"));
        }
        let channel = state.channels.get_mut(&id).expect("just read");
        channel.running = Some((life.number, key.to_owned()));
        Ok(())
    }

    pub(super) fn request_ended(&self, key: &str) {
        let Some((id, _)) = request_of(key) else { return };
        if let Some(channel) = self.state().channels.get_mut(&id)
            && channel.running.as_ref().is_some_and(|(_, running)| running == key)
        {
            channel.running = None;
        }
    }

    /// Right after the store took a step, whether or not the answer arrives.
    pub fn channel_advanced(&self, id: &ChannelId, fact: &ChannelFact, result: &Result<ChannelStep, kas402::store::StoreError>) {
        if !matches!(result, Ok(ChannelStep::Done(_))) {
            return;
        }
        match fact {
            ChannelFact::Committed(charge) => {
                let key = key_of(id, charge.terms.identifier.as_str());
                self.state().job(&key).progress = Progress::Closed;
                // Charged: whoever still reads the rest of it keeps nobody away.
                self.request_ended(&key);
            }
            ChannelFact::Reserved(stream) => self.state().job(&key_of(id, stream.terms.identifier.as_str())).answered = true,
            _ => {}
        }
    }

    /// A client holds an answer, or the end of a stream, for this request.
    pub async fn channel_answered(&self, world: &World, id: &ChannelId, identifier: &str, got: &Got, receipt: Option<&Value>) {
        let name = self.channel_name(id);
        let Some(receipt) = receipt else { return };
        let final_word = receipt["success"] == true && receipt["extensions"]["kaspa"]["status"] != "provisional";
        if !final_word {
            return;
        }
        let parsed = PaymentIdentifier::parse(identifier).expect("ours");
        let row = world.store.charge(id, &parsed).await.ok().flatten();
        let told: u64 = receipt["amount"].as_str().and_then(|amount| amount.parse().ok()).unwrap_or(0);
        match row {
            Some(row) if row.record.charge.sompi() == told && receipt["transaction"] == row.record.commitment.to_string() => {}
            Some(row) => world.trace.wrong(format!("{name}: the receipt of {identifier} says {told}, the ledger {}", row.record.charge)),
            None => world.trace.wrong(format!("{name}: a receipt for {identifier} was handed over, and the charge is not durable")),
        }
        if got.status() == 200 && !self.is_of_job(&key_of(id, identifier), &got.answer.body) {
            world.trace.wrong(format!("{name}: an answer for {identifier} that the API never gave for it"));
        }
        let mut state = self.state();
        let channel = state.channels.get_mut(id).expect("known");
        let before = channel.acknowledged.insert(identifier.to_owned(), told);
        if before.is_some_and(|before| before != told) {
            world.trace.wrong(format!("{name}: {identifier} was acknowledged with {before:?}, now {told}"));
        }
    }

    /// What a client is told about its channel must be what it asked for.
    pub fn told_charged(&self, world: &World, id: &ChannelId, charged: u64) {
        let state = self.state();
        let channel = &state.channels[id];
        let most: u64 = channel
            .requests
            .iter()
            .map(|(identifier, asked)| {
                let ceiling = asked.iter().map(|signed| signed.ceiling).max().unwrap_or(0);
                channel.acknowledged.get(identifier).copied().unwrap_or(ceiling)
            })
            .sum();
        if charged > most {
            world.trace.wrong(format!("{}: its client is told of {charged} charged, it asked for {most}", channel.name));
        }
    }

    pub(super) async fn check_channels(&self, world: &World) {
        let records = all(world).await;
        let totals = world.store.channel_totals().await.expect("the store under test answers");
        let mut sums = (0_u128, 0_u128);
        let mut outpoints = BTreeMap::new();
        for record in &records {
            sums.0 += u128::from(record.parts.charged.sompi());
            sums.1 += u128::from(record.parts.claimed.sompi());
            if let Some(other) = outpoints.insert(record.deposit.outpoint, record.id) {
                world.trace.wrong(format!("{} and {} are over one outpoint", self.channel_name(&other), self.channel_name(&record.id)));
            }
            let rows = world.store.charges(&record.id, 0, 10_000).await.unwrap_or_default();
            self.check_channel(world, record, &rows);
        }
        if world.planted.is_none()
            && ((totals.charged_sompi, totals.claimed_sompi) != sums
                || totals.active_sompi + totals.lost_sompi != totals.charged_sompi - totals.claimed_sompi)
        {
            world.trace.wrong(format!("sums of channels: {totals:?}, but the records say {sums:?}"));
        }
        let state = self.state();
        for (id, channel) in &state.channels {
            if !channel.rows.is_empty() && records.iter().all(|record| record.id != *id) {
                world.trace.wrong(format!("the store forgot {}", channel.name));
            }
        }
    }

    fn check_channel(&self, world: &World, record: &Arc<ChannelRecord>, rows: &[ChargeRecord]) {
        let mut state = self.state();
        let wrong = |what: String| world.trace.wrong(what);
        let Some(channel) = state.channels.get(&record.id) else {
            return wrong(format!("the store has a channel that nobody opened: {}", record.id));
        };
        let name = channel.name.clone();
        let mut charged = 0;
        let mut seen = BTreeMap::new();
        for row in rows {
            let identifier = row.terms.identifier.as_str();
            charged += row.charge.sompi();
            if row.charged_after.sompi() != charged {
                wrong(format!("{name}: the rows of the ledger do not add up at {identifier}"));
            }
            if seen.insert(identifier.to_owned(), row.charge.sompi()).is_some() {
                wrong(format!("{name}: {identifier} is charged twice"));
            }
            let Some(asked) = channel.requests.get(identifier) else {
                wrong(format!("{name}: {identifier} is charged, and its client never asked for it"));
                continue;
            };
            if asked.iter().all(|signed| row.charge.sompi() > signed.ceiling) {
                wrong(format!("{name}: {identifier} is charged with {}", row.charge));
            }
            let job = state.jobs.get(&key_of(&record.id, identifier));
            if !row.charge.is_zero() && !job.is_some_and(|job| job.answered) {
                wrong(format!("{name}: {identifier} is charged, and the API never answered it"));
            }
        }
        if record.parts.charged.sompi() != charged {
            wrong(format!("{name}: charged {}, the rows say {charged}", record.parts.charged));
        }
        for (identifier, before) in &channel.rows {
            if seen.get(identifier) != Some(before) {
                wrong(format!("{name}: the charge of {identifier} was {before}, now {:?}", seen.get(identifier)));
            }
        }
        for (identifier, told) in &channel.acknowledged {
            if seen.get(identifier) != Some(told) {
                wrong(format!("{name}: {identifier} was acknowledged with {told}, the ledger says {:?}", seen.get(identifier)));
            }
        }
        if let Some(taken) = channel.taken.iter().find(|taken| **taken > charged) {
            wrong(format!("{name}: {taken} was claimed on the chain, {charged} is charged"));
        }
        match state.escrows.get(&record.outpoint) {
            Some(escrow) if escrow.taken != record.parts.claimed.sompi() => {
                wrong(format!("{name}: K is {}, the chain took {} on the way to its outpoint", record.parts.claimed, escrow.taken));
            }
            Some(escrow) if escrow.value != record.parts.funding.sompi() => {
                wrong(format!("{name}: holds {}, the outpoint {}", record.parts.funding, escrow.value));
            }
            Some(_) => {}
            None => wrong(format!("{name}: stands on an outpoint that is no escrow")),
        }
        let gone = world.net.gone_for(&record.deposit.outpoint.txid);
        if record.deposit.funded_daa.is_some() && record.closure.is_none() && gone.min(world.calm_for()) > RECORDED_AFTER {
            wrong(format!("{name}: its record does not know that a reorganisation took its deposit {} s ago", gone.as_secs()));
        }
        let channel = state.channels.get_mut(&record.id).expect("just read");
        channel.rows = seen;
    }

    pub(super) async fn check_channels_at_the_end(&self, world: &World) {
        for record in all(world).await {
            let (name, refunded, signed) = {
                let state = self.state();
                let Some(channel) = state.channels.get(&record.id) else { continue };
                (channel.name.clone(), channel.refunded, channel.signed.contains_key(&record.outpoint))
            };
            let wrong = |what: &str| {
                let moves: Vec<_> = record.moves.iter().map(|step| (step.txid, step.state)).collect();
                let (parts, phase) = (record.parts, record.phase());
                world.trace.wrong(format!("{name}: {what}: {phase:?} {parts:?} {:?} {moves:?} {:?}", record.outpoint, record.closure));
            };
            if record.deposit.funded_daa.is_none() && record.charges == 0 {
                continue;
            }
            if world.net.conflict_depth(&record.deposit.outpoint.txid).is_some() {
                // Its client spent the coin of the deposit again, deeper than the confirmations that were waited for.
                world.trace.reached("deposit lost");
                if !record.closure.is_some_and(|closure| closure.is_final) {
                    wrong("its deposit is gone for good, and it is not closed");
                }
                continue;
            }
            if record.stream.is_some() {
                wrong("a stream was never posted");
            }
            let stranded = stranded(world, &record.id).await;
            if record.active() != shop::sompi(0) && record.active().sompi() <= stranded && !signed {
                world.trace.reached("charges stranded");
            } else if record.active() != shop::sompi(0) {
                wrong(if refunded { "its client took back what was owed" } else { "not all that is owed was claimed" });
            }
            match self.frontier(world, &record.id) {
                Some((outpoint, ..)) if outpoint != record.outpoint => wrong("it stands elsewhere on the chain"),
                Some(_) if record.closure.is_some() => wrong("it is closed, and its money is there"),
                None if !record.closure.is_some_and(|closure| closure.is_final) => wrong("its money is gone, and it is not closed"),
                _ => {}
            }
            if !record.moves.is_empty() {
                wrong("a move is not final");
            }
        }
    }

    /// Channels that still owe something, as an operator would claim them.
    pub async fn owing(&self, world: &World) -> Vec<ChannelId> {
        let records = all(world).await;
        let owing = |record: &&Arc<ChannelRecord>| record.active() != shop::sompi(0) && record.closure.is_none();
        records.iter().filter(owing).map(|record| record.id).collect()
    }
}

/// Charges whose vouchers are for an output that was there when they were made, and is not on the winning branch: a reorganisation put another
/// spend in the place of a claim. They are lost only where their client never signed anything for the output that is there (docs/threats.md).
async fn stranded(world: &World, id: &ChannelId) -> u64 {
    let rows = world.store.charges(id, 0, 10_000).await.unwrap_or_default();
    let gone = rows.iter().filter(|row| world.net.ever_had(&row.terms.outpoint.txid) && !world.net.is_accepted(&row.terms.outpoint.txid));
    gone.map(|row| row.charge.sompi()).sum()
}

async fn all(world: &World) -> Vec<Arc<ChannelRecord>> {
    let query = ChannelQuery { selection: ChannelSelection::All, after: 0, limit: 10_000 };
    world.store.channels(&query).await.unwrap_or_default()
}
