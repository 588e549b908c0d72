//! `kas402 channels list|show`: what clients have deposited, what they owe, and what a claim of it would be.
//!
//! Asks a running gateway; without one, reads its store, and cannot tell how near a refund is. Exit codes: 0 shown, 1 not,
//! 2 a mistake in how it was asked.

use super::{
    fail,
    operator::{AskError, Operator, Which},
    paint::Paint,
    say,
    table::{Cell, inked, number, plain, table},
};
use crate::{
    config::StoreSettings,
    gateway::channel::{
        claim::BY_HAND,
        report::{Beside, ChannelView, ClaimView, MoveStateView, PhaseView},
    },
    protocol::{amount::Amount, ids::ChannelId, time::UnixMillis},
    runtime::clock,
    store::channels::{ChannelQuery, ChannelSelection},
};
use serde::Deserialize;
use std::{fmt::Write as _, process::ExitCode};

/// Blocks of the public networks in a second; only people read what is made of it.
const DAA_PER_SECOND: u64 = 10;
/// Channels read at once.
const PAGE: u32 = 256;
/// Characters of a channel's id in a table; enough for `show` and `claim`.
const SHORT: usize = 12;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List channels
    List {
        #[command(flatten)]
        which: Which,
        /// Closed ones too
        #[arg(long)]
        all: bool,
        /// For programs: one JSON array on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show one channel
    Show {
        /// Its id, or the beginning of it
        channel: String,
        #[command(flatten)]
        which: Which,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Command) -> ExitCode {
    match command {
        Command::List { which, all, json } => match Operator::find(which) {
            Err(error) => usage(&error),
            Ok(operator) => match or_stored(&operator, all, views(&operator, all)).await {
                Err(error) => fail(error),
                Ok(views) if json => print_json(&views),
                Ok(views) => print(list(&views, Paint::stdout())),
            },
        },
        Command::Show { channel, which, json } => match Operator::find(which) {
            Err(error) => usage(&error),
            Ok(operator) => {
                let found = find(&operator, &channel).map(|view| vec![view]);
                match or_stored(&operator, true, found).await.and_then(|views| only(views, &channel)) {
                    Err(error) => fail(error),
                    Ok(view) if json => print_json(&view),
                    Ok(view) => print(show(&view, clock::now(), Paint::stdout())),
                }
            }
        },
    }
}

/// What the gateway says, or, when none runs, what its store says.
async fn or_stored(operator: &Operator, all: bool, asked: Result<Vec<ChannelView>, AskError>) -> Result<Vec<ChannelView>, AskError> {
    match (asked, &operator.configured) {
        (Err(AskError::NotRunning(..)), Some(compiled)) if has_store(&compiled.settings.store) => stored(operator, all).await,
        (asked, _) => asked,
    }
}

fn has_store(settings: &StoreSettings) -> bool {
    settings.shared.is_some() || settings.path.exists()
}

async fn stored(operator: &Operator, all: bool) -> Result<Vec<ChannelView>, AskError> {
    let Some(compiled) = &operator.configured else { return Ok(Vec::new()) };
    let failed = |error: crate::store::StoreError| AskError::Refused(error.to_string());
    let reader = operator.stored().await?;
    let policy = compiled.policy.channels.as_ref().map_or(BY_HAND, |channels| channels.claims);
    let beside = Beside { daa_score: None, now: clock::now(), policy, keys: None };
    let selection = if all { ChannelSelection::All } else { ChannelSelection::Open };
    let mut views: Vec<ChannelView> = Vec::new();
    loop {
        let after = views.last().map_or(0, |view| view.sequence);
        let page = reader.read_channels(&ChannelQuery { selection, after, limit: PAGE }).await.map_err(failed)?;
        if page.is_empty() {
            return Ok(views);
        }
        views.extend(page.iter().map(|record| ChannelView::of(record, &beside)));
    }
}

pub(super) fn usage(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}

pub(super) fn print_json(value: &impl serde::Serialize) -> ExitCode {
    print(serde_json::to_string_pretty(value).expect("views are JSON"))
}

fn print(text: String) -> ExitCode {
    say(text.trim_end());
    ExitCode::SUCCESS
}

#[derive(Deserialize)]
struct Page {
    channels: Vec<ChannelView>,
}

/// All channels, in the order of their openings.
pub(super) fn views(operator: &Operator, all: bool) -> Result<Vec<ChannelView>, AskError> {
    let mut views: Vec<ChannelView> = Vec::new();
    loop {
        let after = views.last().map_or(0, |view| view.sequence);
        let page: Page = operator.get(&format!("/channels?all={all}&after={after}"))?;
        if page.channels.is_empty() {
            return Ok(views);
        }
        views.extend(page.channels);
    }
}

/// The one channel whose id begins so.
pub(super) fn find(operator: &Operator, beginning: &str) -> Result<ChannelView, AskError> {
    if beginning.parse::<ChannelId>().is_ok() {
        return operator.get(&format!("/channels/{beginning}"));
    }
    only(views(operator, true)?, beginning)
}

fn only(views: Vec<ChannelView>, beginning: &str) -> Result<ChannelView, AskError> {
    let beginning = beginning.to_ascii_lowercase();
    let mut found = views.into_iter().filter(|view| view.channel.to_string().starts_with(&beginning));
    match (found.next(), found.next()) {
        (Some(view), None) => Ok(view),
        (None, _) => Err(AskError::Refused(format!("no channel begins with {beginning:?}"))),
        (Some(_), Some(_)) => Err(AskError::Refused(format!("several channels begin with {beginning:?}"))),
    }
}

pub(super) fn short(id: &ChannelId) -> String {
    id.to_string()[..SHORT].to_owned()
}

fn list(views: &[ChannelView], paint: Paint) -> String {
    if views.is_empty() {
        return "no channels".to_owned();
    }
    let row = |view: &ChannelView| {
        vec![
            plain(short(&view.channel)),
            phase(view.phase),
            number(view.funding.to_kas()),
            number(view.charged.to_kas()),
            number(view.unclaimed.to_kas()),
            number(view.charges.to_string()),
            refund(view),
            claim(&view.claim),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    table(&["CHANNEL", "PHASE", "ESCROW", "CHARGED", "UNCLAIMED", "CHARGES", "REFUND", "CLAIM"], &rows, paint)
}

fn phase(phase: PhaseView) -> Cell {
    match phase {
        PhaseView::Idle => plain("idle"),
        PhaseView::Streaming => plain("streaming"),
        PhaseView::Claiming => inked("claiming", Paint::green),
        PhaseView::TakenBack => inked("taken back", Paint::yellow),
        PhaseView::Closed => inked("closed", Paint::red),
    }
}

fn refund(view: &ChannelView) -> Cell {
    match (view.closure.is_some(), view.until_refund()) {
        (true, _) => plain("-"),
        (false, Some(0)) => inked("open to the client", Paint::red),
        (false, Some(left)) => plain(format!("in {}", lasts(left / DAA_PER_SECOND))),
        (false, None) => plain(format!("at DAA {}", view.refund_timeout_daa)),
    }
}

fn claim(claim: &ClaimView) -> Cell {
    let fee = claim.fee.map(Amount::to_kas).unwrap_or_default();
    match (claim.state.as_str(), claim.stuck) {
        (_, true) => inked("sent, stuck", Paint::red),
        ("due", _) => inked(format!("due, fee {fee}"), Paint::green),
        ("possible", _) => plain(format!("later, fee {fee}")),
        ("nothing_to_claim", _) => inked("-", Paint::dim),
        ("claim_sent", _) => plain("sent"),
        ("channel_closed", _) => plain("closed"),
        (_, _) => inked(claim.reason.clone().unwrap_or_else(|| claim.state.clone()), Paint::yellow),
    }
}

/// A length of time to two places.
pub(super) fn lasts(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn ago(at: UnixMillis, now: UnixMillis) -> String {
    format!("{} ago", lasts(now.millis_since(at) / 1_000))
}

fn show(view: &ChannelView, now: UnixMillis, paint: Paint) -> String {
    let mut rows = vec![
        ("channel", plain(view.channel.to_string())),
        ("phase", phase(view.phase)),
        ("client key", plain(view.client_public_key.to_string())),
        ("server key", plain(view.server_public_key.to_string())),
        ("pays to", plain(view.pay_to.clone())),
        ("refunds to", plain(view.refund_address.clone())),
        ("refund", plain(format!("{} (after DAA score {})", refund(view).text, view.refund_timeout_daa))),
        ("outpoint", plain(view.outpoint.to_string())),
        ("escrow", plain(view.funding.to_kas())),
        ("charged", plain(format!("{} in {} charges", view.charged.to_kas(), view.charges))),
        ("claimed", plain(view.claimed.to_kas())),
        ("unclaimed", plain(view.unclaimed.to_kas())),
        ("reserved", plain(view.reserved.to_kas())),
        ("signed", plain(view.signed.to_kas())),
        ("reserve", plain(format!("{} stay in every claim", view.reserve.to_kas()))),
        ("opened", plain(ago(view.opened_at, now))),
        ("last charge", plain(view.last_charge_at.map_or("never".into(), |at| ago(at, now)))),
        ("deposit", plain(format!("{} at {}", view.deposit.amount.to_kas(), view.deposit.outpoint))),
        ("", plain(view.deposit.funded_daa.map_or("not accepted".into(), |daa| format!("accepted at DAA score {daa}")))),
        ("claim", claim(&view.claim)),
    ];
    for step in &view.moves {
        let state = match step.state {
            MoveStateView::Built => "sent",
            MoveStateView::Accepted => "accepted, not final",
            MoveStateView::TakenBack => "taken back by a reorg, sent again",
        };
        let adds = if step.added.is_zero() { String::new() } else { format!(", adds {}", step.added.to_kas()) };
        let told = format!(
            "{} takes {} (fee {}){adds}: {state}, built {}",
            step.txid,
            step.takes.to_kas(),
            step.fee.to_kas(),
            ago(step.built_at, now)
        );
        rows.push((if step.added.is_zero() { "claim" } else { "top-up" }, plain(told)));
    }
    if let Some(closure) = &view.closure {
        let told = format!("by {} at DAA score {}{}", closure.by, closure.daa_score, if closure.is_final { ", for good" } else { "" });
        rows.push(("closed", inked(told, Paint::red)));
    }
    let mut out = String::new();
    for (name, cell) in rows {
        let _ = writeln!(out, "{} {}", paint.dim(&format!("{name:<12}")), (cell.ink)(paint, &cell.text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::channel::report::samples::view;

    #[test]
    fn a_list_has_one_line_for_each_channel_and_says_what_a_claim_would_be() {
        let views = [view(1, 0, Some(5)), view(2, 300_000_000, Some(5)), view(3, 1_000_000, Some(99_999)), view(4, 0, None)];
        let text = list(&views, Paint::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        let short = short(&views[1].channel);
        assert_eq!(lines.len(), 5);
        for (line, parts) in [
            (lines[0], &["CHANNEL", "UNCLAIMED", "CLAIM"][..]),
            (lines[1], &["idle", "10 KAS", "in 2 h 46 min", "  -"]),
            (lines[2], &[&short, "3 KAS", "due, fee 0.003464 KAS"]),
            (lines[3], &["0.01 KAS", "in 0 s", "no output that the network takes"]),
            (lines[4], &["at DAA 100000"]),
        ] {
            parts.iter().for_each(|part| assert!(line.contains(part), "{part:?} in {line:?}"));
        }
        // Amounts end under the end of their heads.
        let end = |line: &str, part: &str| line.rfind(part).unwrap() + part.len();
        assert_eq!(end(lines[0], "UNCLAIMED"), end(lines[2], " 3 KAS"), "{text}");
        assert_eq!(list(&[], Paint::PLAIN), "no channels");
    }

    #[test]
    fn a_channel_is_found_by_the_beginning_of_its_id() {
        let views = || (1..=9).map(|sequence| view(sequence, 0, None)).collect::<Vec<_>>();
        let id = views()[4].channel.to_string();
        assert_eq!(only(views(), &id[..10].to_uppercase()).unwrap().channel.to_string(), id);
        assert!(only(views(), "").unwrap_err().to_string().contains("several"));
        assert!(only(views(), "zz").unwrap_err().to_string().contains("no channel"));
    }

    #[test]
    fn a_channel_is_shown_with_everything_that_is_known() {
        let view = view(2, 300_000_000, Some(100_001));
        let text = show(&view, UnixMillis(90_000_000), Paint::PLAIN);
        for part in [&view.channel.to_string(), &view.pay_to, "open to the client", "3 KAS in 1 charges", "1 d 0 h ago", "due, fee"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn time_is_told_to_two_places() {
        for (seconds, expect) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_599, "59 min"), (3_600, "1 h 0 min"), (86_400, "1 d 0 h"), (200_000, "2 d 7 h")]
        {
            assert_eq!(lasts(seconds), expect);
        }
    }
}
