//! Follows the virtual chain of one usable node at a time, and moves to the next when it is lost.
//!
//! A session subscribes first, catches up from where the last one stopped until the node has nothing
//! more, and only then publishes. From then on a notification does two things: it names accepting
//! blocks early (one question to the node turns that into a published acceptance), and it makes the
//! chain be asked for from our own tail, which is the only thing that adds or removes chain blocks.
//! So late, lost or reordered notifications cost time, never truth. Watched outputs are asked of the utxo
//! set in the same spirit: their notifications only say what to ask for.

use super::{
    link::LinkState,
    node::{CallError, Events, Node},
    outputs::Question,
    search,
    shared::{Shared, lock},
    submit_errors::Verdict,
    tracker::Located,
};
use crate::{
    chain::Tip,
    protocol::{
        acceptance::Checkpoint,
        ids::{BlockHash, Outpoint},
    },
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kaspa_wrpc_client::prelude::Notification;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// The chain is asked for at least this often: a lost notification must not matter.
const POLL: Duration = Duration::from_secs(1);
/// Pause between two rounds of looking for conflicts.
const SCAN: Duration = Duration::from_millis(250);
/// Chain blocks searched for conflicts in one round.
const SCAN_BLOCKS: usize = 64;
/// Pause between two searches far back, which anybody can provoke.
const SEARCH: Duration = Duration::from_secs(5);
/// Transactions in one such search.
const SEARCH_TRANSACTIONS: usize = 16;
/// Pause after a session that failed.
const RETRY: Duration = Duration::from_millis(200);
/// How often every watched output is asked for, although nothing was notified.
const AUDIT: Duration = Duration::from_secs(60);
/// How often the checkpoint is renewed and the nodes are compared.
const CHORES: Duration = Duration::from_secs(5);
/// Chain blocks the checkpoint lies behind the tail; at least as much blue score.
const CHECKPOINT_DEPTH: usize = 100;
/// For so long two nodes may disagree about a chain block.
const DISAGREEMENT: Duration = Duration::from_secs(30);
/// Blocks located at the same time while catching up.
const LOCATE_AT_ONCE: usize = 16;

pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let (index, node, session) = shared.wait_for_up().await;
        let ended = follow_node(&shared, index, session, &node).await;
        shared.leave_node();
        if let Err(error) = ended {
            tracing::warn!(?error, "following the node ended");
            shared.not_ready("disconnected: the node stopped answering".into());
            sleep(RETRY).await; // why: the link notices a dead node a moment later; until then trying again is all there is to do
        }
    }
}

/// What a question to the node came to.
enum Done {
    Located(BlockHash, Result<Located, CallError>),
    /// With the scores from before the chain was asked for, when they were asked for, too.
    Polled(Result<Option<Tip>, CallError>),
    Scanned(Result<(), CallError>),
    Searched(Result<(), CallError>),
    Asked(Result<(), CallError>),
    Traced(Result<(), CallError>),
    Chores(Result<bool, CallError>),
}

type Work<'a> = FuturesUnordered<BoxFuture<'a, Done>>;

/// Follows `node` until its link changes (`Ok`) or it stops answering.
async fn follow_node(shared: &Arc<Shared>, index: usize, session: u64, node: &Node) -> Result<(), CallError> {
    shared.not_ready("catching_up: reading the chain".into());
    lock(&shared.tracker).begin_catch_up();
    let events = node.subscribe().await?;
    let tip = tokio::select! {
        ready = prepare(shared, node, &events) => ready?,
        // What is notified meanwhile is only thrown away, so that it does not pile up: the chain is asked for again below.
        () = drain(&events.events) => return Err(CallError::Lost("the notifications ended".into())),
    };
    lock(&shared.tracker).caught_up();
    // After the statuses: depth is counted from what they say.
    shared.tip.send_replace(tip);
    shared.enter_node(index, session);

    let mut link = shared.links[index].clone();
    let mut work = Work::new();
    let (mut polling, mut scanning, mut searching, mut asking, mut tracing) = (false, false, false, false, false);
    // Anything between the end of the catch-up and the beginning of the subscription is read now.
    let mut dirty = true;
    // Notifications overtake each other, so the last one may be an older one: now and then the scores are asked for.
    let mut refresh = true;
    let mut depth = Depth::default();
    let (mut polls, mut scans, mut chores, mut audits) = (every(POLL), every(SCAN), every(CHORES), every(AUDIT));
    // The first tick of an interval is at once, and everything was asked for a moment ago.
    audits.reset();
    let (mut next_search, mut next_trace) = (Instant::now(), Instant::now());
    work.push(run_chores(shared, index, node).boxed());
    loop {
        depth.publish(shared);
        for block in lock(&shared.tracker).take_to_locate() {
            work.push(locate(node, block).map(move |located| Done::Located(block, located)).boxed());
        }
        let again = lock(&shared.tracker).take_to_resubmit();
        if !again.is_empty() {
            tokio::spawn(shared.clone().resubmit_everywhere(again));
        }
        if dirty && !polling {
            (dirty, polling) = (false, true);
            depth.asked();
            work.push(poll(shared, node, std::mem::take(&mut refresh)).map(Done::Polled).boxed());
        }
        subscribe_addresses(shared, node, &events).await?;
        if !asking && let Some(question) = next_question(shared) {
            asking = true;
            work.push(ask(shared, node, question).map(Done::Asked).boxed());
        }
        if !tracing && next_trace <= Instant::now() {
            let wanted = lock(&shared.tracker).take_to_trace();
            if let Some((daa_score, outpoints)) = wanted {
                (tracing, next_trace) = (true, Instant::now() + SEARCH);
                work.push(trace(shared, node, daa_score, outpoints).map(Done::Traced).boxed());
            }
        }
        if !searching && next_search <= Instant::now() {
            let wanted = lock(&shared.tracker).take_to_search(SEARCH_TRANSACTIONS);
            if !wanted.is_empty() {
                (searching, next_search) = (true, Instant::now() + SEARCH);
                work.push(search_back(shared, node, wanted).map(Done::Searched).boxed());
            }
        }
        tokio::select! {
            event = events.events.recv() => match event {
                Ok(event) => dirty |= take_event(shared, &mut depth, event),
                Err(_) => return Err(CallError::Lost("the notifications ended".into())),
            },
            Some(done) = work.next() => match done {
                Done::Located(block, Ok(located)) => lock(&shared.tracker).located(block, located),
                Done::Located(block, Err(error)) => {
                    lock(&shared.tracker).locate_again(block);
                    return Err(error);
                }
                Done::Polled(result) => {
                    polling = false;
                    let scores = result?;
                    depth.merged();
                    if lock(&shared.tracker).hunting() {
                        scans.reset_immediately();
                    }
                    if let Some(scores) = scores {
                        depth.merged = Some(scores.blue_score);
                        raise_daa_score(shared, scores.daa_score);
                    }
                }
                Done::Scanned(result) => { scanning = false; result? }
                Done::Searched(result) => { searching = false; result? }
                Done::Asked(result) => { asking = false; result? }
                Done::Traced(result) => { tracing = false; result? }
                Done::Chores(agreed) => shared.agree(agreed?),
            },
            () = shared.wake.notified() => {}
            changed = link.changed() => {
                let same = matches!(&*link.borrow_and_update(), LinkState::Up { session: now, .. } if *now == session);
                if changed.is_err() || !same {
                    return Ok(());
                }
            }
            _ = polls.tick() => {
                (dirty, refresh) = (true, true);
                lock(&shared.tracker).ask_again();
            }
            _ = audits.tick() => lock(&shared.tracker).ask_all(),
            _ = scans.tick(), if !scanning => {
                let plan = lock(&shared.tracker).scan_plan(std::time::Instant::now(), SCAN_BLOCKS);
                if !plan.is_empty() {
                    scanning = true;
                    work.push(scan(shared, node, plan).map(Done::Scanned).boxed());
                }
            }
            _ = chores.tick() => work.push(run_chores(shared, index, node).boxed()),
        }
    }
}

/// Within one session the score only rises: notifications overtake each other and the answers to polls, and what was deep enough once must not
/// be found too young a moment later.
fn raise_daa_score(shared: &Shared, daa_score: u64) {
    shared.tip.send_modify(|tip| tip.daa_score = tip.daa_score.max(daa_score));
}

/// Everything that must be known before anything is published. The tip is that of before the chain was read.
async fn prepare(shared: &Shared, node: &Node, events: &Events) -> Result<Tip, CallError> {
    let (daa_score, blue_score) = node.scores().await?;
    catch_up(shared, node).await?;
    locate_all(shared, node).await?;
    // All of them: the loop would take one batch at a time.
    while subscribe_addresses(shared, node, events).await? {}
    while let Some(question) = next_question(shared) {
        ask(shared, node, question).await?;
    }
    Ok(Tip { daa_score, blue_score })
}

/// Subscribes to what became watched; returns whether there was anything.
async fn subscribe_addresses(shared: &Shared, node: &Node, events: &Events) -> Result<bool, CallError> {
    let subscriptions = lock(&shared.tracker).take_subscriptions();
    let any = !subscriptions.start.is_empty() || !subscriptions.stop.is_empty();
    node.subscribe_addresses(events, subscriptions).await?;
    Ok(any)
}

fn next_question(shared: &Shared) -> Option<Question> {
    let daa_score = shared.tip.borrow().daa_score;
    lock(&shared.tracker).take_question(daa_score)
}

/// What the utxo set holds of the outputs asked for.
async fn ask(shared: &Shared, node: &Node, question: Question) -> Result<(), CallError> {
    let entries = node.unspent(question.addresses.clone()).await?;
    let utxos = entries.into_iter().filter_map(super::node::utxo).map(|utxo| (utxo.outpoint, utxo)).collect();
    lock(&shared.tracker).answered(question, utxos, std::time::Instant::now());
    Ok(())
}

async fn trace(shared: &Shared, node: &Node, daa_score: u64, outpoints: Vec<Outpoint>) -> Result<(), CallError> {
    match search::trace(node, &shared.tracker, daa_score, &outpoints).await {
        Err(CallError::Refused(why)) => {
            tracing::warn!(%why, "searching for the spend of an output failed");
            lock(&shared.tracker).traced(&outpoints, None);
            Ok(())
        }
        ended => ended,
    }
}

/// The sink's blue score, held back until the chain it was told of is merged: published at once, it would make a payment
/// look deep that the same change of the chain takes away.
#[derive(Default)]
struct Depth {
    /// As notified.
    told: Option<u64>,
    /// Notified before the question under way was asked.
    asked: Option<u64>,
    /// Notified before the last question that was answered.
    merged: Option<u64>,
}

impl Depth {
    fn asked(&mut self) {
        self.asked = self.told.take().or(self.asked);
    }

    fn merged(&mut self) {
        self.merged = self.asked.take().or(self.merged);
    }

    /// Not while an acceptance that was published is on its way to another block.
    fn publish(&mut self, shared: &Shared) {
        if self.merged.is_some()
            && !lock(&shared.tracker).moving()
            && let Some(blue_score) = self.merged.take()
        {
            shared.tip.send_modify(|tip| tip.blue_score = blue_score);
        }
    }
}

async fn drain(events: &async_channel::Receiver<Notification>) {
    while events.recv().await.is_ok() {}
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Returns whether the chain has to be asked for.
fn take_event(shared: &Shared, depth: &mut Depth, event: Notification) -> bool {
    match event {
        Notification::VirtualChainChanged(change) => {
            let mut tracker = lock(&shared.tracker);
            for accepted in change.accepted_transaction_ids.iter() {
                tracker.hint(accepted.accepting_block_hash.into(), accepted.accepted_transaction_ids.iter().map(|id| (*id).into()));
            }
            true
        }
        Notification::SinkBlueScoreChanged(change) => {
            depth.told = Some(change.sink_blue_score);
            true
        }
        Notification::VirtualDaaScoreChanged(change) => {
            raise_daa_score(shared, change.virtual_daa_score);
            false
        }
        Notification::UtxosChanged(change) => {
            let named = change.added.iter().chain(change.removed.iter()).map(|entry| super::node::outpoint(&entry.outpoint));
            lock(&shared.tracker).hint_outputs(named);
            false
        }
        _ => false,
    }
}

/// Merges everything the node has, beginning where the last session, or the last process, stopped.
async fn catch_up(shared: &Shared, node: &Node) -> Result<(), CallError> {
    let tail = lock(&shared.tracker).tail();
    let checkpoint = *lock(&shared.checkpoint);
    let continues = match tail {
        Some(tail) => node.starts_from(tail).await?,
        None => false,
    };
    if !continues {
        let start = match checkpoint {
            Some(checkpoint) if node.starts_from(checkpoint.block).await? => checkpoint.block,
            Some(checkpoint) => {
                let blue = node.sink_blue_score().await?.saturating_sub(checkpoint.blue_score).max(search::START_BLUE);
                let start = search::block_behind_sink(node, blue).await?;
                tracing::warn!(%checkpoint.block, %start, "the node does not know the checkpoint: starting over, unresolved payments are searched");
                lock(&shared.tracker).search_everything();
                start
            }
            None => search::block_behind_sink(node, search::START_BLUE).await?,
        };
        lock(&shared.tracker).restart_at(start, std::time::Instant::now());
    }
    poll_chain(shared, node).await
}

/// Merges what is new; `refresh` asks for the scores first, so that they are never ahead of what is merged.
async fn poll(shared: &Shared, node: &Node, refresh: bool) -> Result<Option<Tip>, CallError> {
    let scores = if refresh { Some(node.scores().await?) } else { None };
    poll_chain(shared, node).await?;
    Ok(scores.map(|(daa_score, blue_score)| Tip { daa_score, blue_score }))
}

/// Asks for the chain from our tail until there is no more.
async fn poll_chain(shared: &Shared, node: &Node) -> Result<(), CallError> {
    loop {
        let (poll, tail) = {
            let mut tracker = lock(&shared.tracker);
            (tracker.begin_poll(), tracker.tail())
        };
        let Some(tail) = tail else { return Err(CallError::Refused("the chain was not begun".into())) };
        let path = node.chain_from(tail).await?;
        let mut tracker = lock(&shared.tracker);
        if path.added.is_empty() && path.removed.is_empty() {
            tracker.end_poll(poll);
            return Ok(());
        }
        tracker.apply(&path.removed, path.added, std::time::Instant::now());
    }
}

async fn locate(node: &Node, block: BlockHash) -> Result<Located, CallError> {
    match node.block(block).await {
        Ok(facts) if facts.on_chain => Ok(Located::OnChain { blue_score: facts.blue_score, daa_score: facts.daa_score }),
        Ok(_) => Ok(Located::OffChain),
        Err(CallError::Refused(_)) => Ok(Located::Missing { sink_blue_score: node.sink_blue_score().await? }),
        Err(lost) => Err(lost),
    }
}

/// Locates every named block before anything is published.
async fn locate_all(shared: &Shared, node: &Node) -> Result<(), CallError> {
    loop {
        let blocks = lock(&shared.tracker).take_to_locate();
        if blocks.is_empty() {
            return Ok(());
        }
        let mut answers =
            futures::stream::iter(blocks).map(|block| locate(node, block).map(move |l| (block, l))).buffer_unordered(LOCATE_AT_ONCE);
        while let Some((block, located)) = answers.next().await {
            lock(&shared.tracker).located(block, located?);
        }
    }
}

async fn scan(shared: &Shared, node: &Node, plan: Vec<super::tracker::Scan>) -> Result<(), CallError> {
    for scan in plan {
        match search::scan_for_spends(node, &shared.tracker, &scan).await {
            Ok(()) => {}
            // The block was pruned meanwhile: there is nothing to search in it.
            Err(CallError::Refused(_)) => lock(&shared.tracker).scanned(&scan, std::time::Instant::now()),
            Err(lost) => return Err(lost),
        }
    }
    Ok(())
}

async fn search_back(shared: &Shared, node: &Node, wanted: Vec<Arc<kaspa_consensus_core::tx::Transaction>>) -> Result<(), CallError> {
    match search::find_accepted(node, shared.options.network, &wanted).await {
        Ok(found) => {
            let mut tracker = lock(&shared.tracker);
            for (txid, block) in found {
                tracker.found(txid, block);
            }
            Ok(())
        }
        Err(CallError::Refused(why)) => {
            tracing::warn!(%why, "searching for an earlier acceptance failed");
            Ok(())
        }
        Err(lost) => Err(lost),
    }
}

/// Renews the checkpoint and compares the nodes.
async fn run_chores(shared: &Shared, index: usize, node: &Node) -> Done {
    Done::Chores(
        async {
            let (behind, settled) = {
                let tracker = lock(&shared.tracker);
                (tracker.behind_tail(CHECKPOINT_DEPTH), tracker.settled(std::time::Instant::now(), DISAGREEMENT))
            };
            if let Some(block) = behind {
                match node.block(block).await {
                    Ok(facts) if facts.on_chain => *lock(&shared.checkpoint) = Some(Checkpoint { block, blue_score: facts.blue_score }),
                    Ok(_) | Err(CallError::Refused(_)) => {}
                    Err(lost) => return Err(lost),
                }
            }
            let Some(settled) = settled else { return Ok(true) };
            for other in shared.other_nodes(index) {
                match other.block(settled).await {
                    Ok(facts) if facts.on_chain => {}
                    Ok(_) | Err(CallError::Refused(_)) => return Ok(false),
                    // It is gone, which is its link's business.
                    Err(CallError::Lost(_)) => {}
                }
            }
            Ok(true)
        }
        .await,
    )
}

/// What a verdict about a followed transaction asks for.
pub(super) fn learn(shared: &Shared, txid: &crate::protocol::ids::TxId, verdict: Verdict) {
    if matches!(verdict, Verdict::InSomeBlock | Verdict::Spent) {
        lock(&shared.tracker).suspect(txid);
        shared.wake.notify_one();
    }
}
