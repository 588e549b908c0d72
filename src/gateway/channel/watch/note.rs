//! What people and metrics are told of a fact that was stored.

use crate::{
    protocol::{amount::Amount, ids::TxId},
    store::channels::{ChannelRecord, ChannelSighting, Closure, Move},
    telemetry::Metrics,
};

/// `before` and `after` the fact; `after` is `None` when the channel never was.
pub(super) fn note(metrics: &Metrics, before: &ChannelRecord, after: Option<&ChannelRecord>, fact: &ChannelSighting) {
    let channel = before.id;
    let step = |txid: &TxId| before.moves.iter().find(|step| step.txid == *txid);
    let takes = |txid: &TxId| step(txid).map_or(Amount::ZERO, |step: &Move| step.takes).sompi();
    match fact {
        ChannelSighting::Funded { daa_score } => {
            tracing::info!(%channel, daa_score, outpoint = %before.deposit.outpoint, "deposit accepted")
        }
        ChannelSighting::Unfunded => tracing::warn!(%channel, outpoint = %before.deposit.outpoint, "a reorg took the deposit: not served"),
        ChannelSighting::DepositFinal => tracing::debug!(%channel, "deposit final"),
        ChannelSighting::NeverFunded => tracing::warn!(%channel, "the deposit will never be: the channel is forgotten"),
        ChannelSighting::MoveAccepted { txid, acceptance } => {
            metrics.claims.accepted.inc();
            let daa_score = acceptance.daa_score;
            tracing::info!(%channel, %txid, takes_sompi = takes(txid), daa_score, "claim accepted");
            crate::gateway::crash::point("claim_accepted");
        }
        ChannelSighting::MoveTakenBack { txid } => {
            metrics.claims.taken_back.inc();
            tracing::warn!(%channel, %txid, takes_sompi = takes(txid), "a reorg took a claim back: it is sent again, nothing is served meanwhile");
        }
        ChannelSighting::MoveFinal { txid } => {
            metrics.claims.is_final.inc();
            let fee = step(txid).map_or(Amount::ZERO, |step| step.fee).sompi();
            metrics.claim_fee_sompi.inc_by(fee);
            tracing::info!(%channel, %txid, takes_sompi = takes(txid), fee_sompi = fee, "claim final");
        }
        ChannelSighting::MoveDropped { txid } => {
            metrics.claims.dropped.inc();
            tracing::warn!(%channel, %txid, "a claim or top-up will never be accepted: dropped");
        }
        ChannelSighting::Closed(closure) => closed(metrics, before, after, closure),
        ChannelSighting::Reopened => tracing::warn!(%channel, "a reorg took the spend that closed the channel: open again"),
    }
}

fn closed(metrics: &Metrics, before: &ChannelRecord, after: Option<&ChannelRecord>, closure: &Closure) {
    let (channel, by) = (before.id, closure.by);
    let lost = after.unwrap_or(before).active().sompi();
    if before.closure.is_none() {
        metrics.channels_closed_by_client.inc();
        let daa_score = closure.acceptance.daa_score;
        tracing::info!(%channel, %by, daa_score, unclaimed_sompi = lost, "the escrow was spent by the client: closed");
    }
    if closure.is_final && lost > 0 {
        metrics.lost_sompi.inc_by(lost);
        tracing::error!(%channel, %by, lost_sompi = lost, "charges were never claimed and are lost: the escrow was spent by the client for good");
    }
}
