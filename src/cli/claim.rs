//! `kas402 claim CHANNEL|--all`: a running gateway claims what clients owe, now.
//!
//! Exit codes: 0 every claim that was possible and worth it is sent, or there is none; 1 a claim failed; 2 a mistake in how it was asked.

use super::{
    channels::{find, print_json, short, usage, views},
    fail,
    operator::{AskError, Operator, Which},
    paint::Paint,
    say,
    table::{Cell, inked, number, plain, table},
};
use crate::{
    gateway::channel::report::{ChannelView, Outcome},
    protocol::amount::Amount,
};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["channel", "all"])))]
pub struct Args {
    /// The channel's id, or the beginning of it
    channel: Option<String>,
    /// Every channel that owes something and is worth its fee
    #[arg(long)]
    all: bool,
    /// Only show what would be claimed
    #[arg(long)]
    dry_run: bool,
    /// Claim although the fee is over the configured limit
    #[arg(long)]
    any_fee: bool,
    #[command(flatten)]
    which: Which,
    /// For programs: one JSON array on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> ExitCode {
    let Args { channel, dry_run, any_fee, which, json, .. } = args;
    let operator = match Operator::find(which) {
        Ok(operator) => operator,
        Err(error) => return usage(&error),
    };
    let chosen = match &channel {
        Some(beginning) => find(&operator, beginning).map(|view| vec![view]),
        // What owes nothing, or is on its way, is no news.
        None => views(&operator, false).map(|views| views.into_iter().filter(owes).collect()),
    };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => return fail(error),
    };
    if dry_run {
        if json {
            return print_json(&chosen);
        }
        say(would_claim(&chosen, Paint::stdout()).trim_end());
        return ExitCode::SUCCESS;
    }
    let outcomes: Result<Vec<Outcome>, AskError> = chosen
        .iter()
        .filter(|view| channel.is_some() || any_fee || view.claim.payout.is_some())
        .map(|view| operator.post(&format!("/channels/{}/claim?any_fee={any_fee}", view.channel)))
        .collect();
    match outcomes {
        Err(error) => fail(error),
        Ok(outcomes) => {
            if json {
                print_json(&outcomes);
            } else {
                say(claimed(&outcomes, &chosen, Paint::stdout()).trim_end());
            }
            if outcomes.iter().any(|outcome| failed(outcome, channel.is_some())) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

fn owes(view: &ChannelView) -> bool {
    !view.unclaimed.is_zero() && !["claim_sent", "channel_closed"].contains(&view.claim.state.as_str())
}

/// Of many channels some may have changed since they were listed; the one that was named has to be claimed.
fn failed(outcome: &Outcome, named: bool) -> bool {
    let harmless = ["uneconomic", "nothing_to_claim", "claim_sent", "channel_closed"];
    outcome.unclaimed.as_ref().is_some_and(|(code, _)| named || !harmless.contains(&code.as_str()))
}

fn kas(amount: Option<Amount>) -> Cell {
    number(amount.map_or("-".into(), Amount::to_kas))
}

fn would_claim(views: &[ChannelView], paint: Paint) -> String {
    if views.is_empty() {
        return "nothing to claim".to_owned();
    }
    let row = |view: &ChannelView| {
        let told = match (&view.claim.reason, view.claim.payout) {
            (_, Some(_)) => inked("would be claimed", Paint::green),
            (Some(reason), _) => inked(reason.clone(), Paint::yellow),
            (None, None) => plain(view.claim.state.clone()),
        };
        vec![plain(short(&view.channel)), number(view.unclaimed.to_kas()), kas(view.claim.fee), kas(view.claim.payout), told]
    };
    table(&["CHANNEL", "TAKES", "FEE", "PAYOUT", ""], &views.iter().map(row).collect::<Vec<_>>(), paint)
}

fn claimed(outcomes: &[Outcome], chosen: &[ChannelView], paint: Paint) -> String {
    let claimed = |outcome: &Outcome| match (&outcome.claim, &outcome.unclaimed) {
        (Some(claim), _) => {
            let taken = if claim.taken { "" } else { " (not taken by the node yet: it is sent again)" };
            let told = inked(format!("{}{taken}", claim.txid), Paint::green);
            vec![
                plain(short(&outcome.channel)),
                number(claim.takes.to_kas()),
                number(claim.fee.to_kas()),
                number(claim.payout.to_kas()),
                told,
            ]
        }
        (None, why) => {
            let why = why.as_ref().map_or("not claimed", |(_, words)| words);
            vec![plain(short(&outcome.channel)), number("-"), number("-"), number("-"), inked(why, Paint::yellow)]
        }
    };
    let left = chosen.iter().filter(|view| outcomes.iter().all(|outcome| outcome.channel != view.channel));
    let left = left.map(|view| {
        let why = view.claim.reason.clone().unwrap_or_default();
        vec![plain(short(&view.channel)), number(view.unclaimed.to_kas()), number("-"), number("-"), inked(why, Paint::yellow)]
    });
    let rows: Vec<_> = outcomes.iter().map(claimed).chain(left).collect();
    if rows.is_empty() { "nothing to claim".to_owned() } else { table(&["CHANNEL", "TAKES", "FEE", "PAYOUT", "CLAIM"], &rows, paint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::channel::{
            claim::{Cause, ClaimReport},
            report::samples::view,
        },
        protocol::ids::{Outpoint, TxId},
    };

    fn outcome(view: &ChannelView, refused: Option<&str>) -> Outcome {
        let amount = |sompi| Amount::from_sompi(sompi).unwrap();
        let claim = ClaimReport {
            channel: view.channel,
            cause: Cause::Asked,
            txid: TxId([7; 32]),
            claim_outpoint: view.outpoint,
            continuation_outpoint: Outpoint { txid: TxId([7; 32]), index: 1 },
            takes: view.unclaimed,
            fee: amount(346_400),
            payout: amount(299_653_600),
            continuation: amount(700_000_000),
            taken: false,
        };
        Outcome {
            channel: view.channel,
            claim: refused.is_none().then_some(claim),
            unclaimed: refused.map(|code| (code.to_owned(), format!("because: {code}"))),
        }
    }

    #[test]
    fn what_would_be_claimed_and_what_was_is_told_for_every_channel() {
        let (rich, dust) = (view(1, 300_000_000, Some(5)), view(2, 1_000_000, Some(5)));
        assert!(owes(&rich) && owes(&dust) && !owes(&view(3, 0, Some(5))));
        let text = would_claim(&[rich.clone(), dust.clone()], Paint::PLAIN);
        for part in [&short(&rich.channel), "0.003464 KAS", "2.996536 KAS", "would be claimed", "no output that the network takes"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let text = claimed(&[outcome(&rich, None)], &[rich.clone(), dust.clone()], Paint::PLAIN);
        for part in [&TxId([7; 32]).to_string(), "sent again", &short(&dust.channel), "no output that the network takes"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert_eq!(
            (would_claim(&[], Paint::PLAIN), claimed(&[], &[], Paint::PLAIN)),
            ("nothing to claim".into(), "nothing to claim".into())
        );
    }

    #[test]
    fn only_what_should_have_worked_is_a_failure() {
        let view = view(1, 300_000_000, Some(5));
        for (refused, named, expect) in [
            (None, true, false),
            (Some("uneconomic"), false, false),
            (Some("uneconomic"), true, true),
            (Some("claim_sent"), false, false),
            (Some("server_key_missing"), false, true),
            (Some("channel_busy"), false, true),
        ] {
            assert_eq!(failed(&outcome(&view, refused), named), expect, "{refused:?} {named}");
        }
    }
}
