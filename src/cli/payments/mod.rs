//! `kas402 payments list|show|export|grant`: the books, of both schemes.
//!
//! Asks a running gateway; without one, reads its store (`grant` needs the gateway). Never more than a page in memory: an export
//! of millions streams. Exit codes: 0 done, 1 not, 2 a mistake in how it was asked.

mod csv;
mod source;

use super::{
    channels::{lasts, print_json, usage},
    fail,
    operator::{AskError, Operator, Which},
    paint::Paint,
    say,
    table::{Cell, inked, number, plain, table},
};
use crate::{
    gateway::ledger::{
        Cursor, Detail, Entry, EntryState, Filter, Scheme,
        date::{instant, parse_day},
        report,
    },
    protocol::{ids::TxId, time::UnixMillis},
    runtime::clock,
};
use serde::Deserialize;
use source::Books;
use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

/// Entries asked for at once.
const PAGE: usize = 512;
/// Characters of an id in a table; enough for `show`.
const SHORT: usize = 16;
/// Longest text of a table's last column.
const WORDS: usize = 60;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List payments, and charges of channels
    List {
        #[command(flatten)]
        chosen: Chosen,
        /// Most entries shown
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Where to continue: `next` of the list before
        #[arg(long, default_value_t, value_name = "PLACE")]
        after: Cursor,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show one payment or charge
    Show {
        /// Its transaction or commitment id, or the beginning of it
        id: String,
        #[command(flatten)]
        which: Which,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Write all of them to stdout, or a report of volume and users
    Export {
        #[command(flatten)]
        chosen: Chosen,
        /// csv and jsonl have one line for each entry; grant is a report that names nobody
        #[arg(long, value_enum)]
        format: Format,
    },
    /// Make a payment good for its request again: one that was paid late, or whose time ran out undelivered
    Grant {
        /// Its transaction id
        txid: TxId,
        /// How long from now
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        hours: u64,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    Csv,
    Jsonl,
    Grant,
}

/// Which entries, of which gateway.
#[derive(clap::Args, Debug)]
pub struct Chosen {
    /// From this moment on: a day in UTC (2026-11-21), an age (90m, 12h, 7d), or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of this route
    #[arg(long, value_name = "ID")]
    route: Option<String>,
    /// Of this address, or this public key of a channel
    #[arg(long, value_name = "PAYER")]
    payer: Option<String>,
    /// In this state: pending, paid_late, settled, delivered, reversed, charged, claimed, lost
    #[arg(long, value_name = "STATE")]
    state: Option<EntryState>,
    /// Of this scheme: exact or batch-settlement
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Chosen {
    fn filter(&self, now: UnixMillis) -> Result<Filter, String> {
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
        let scheme = match self.scheme.as_deref() {
            None => None,
            Some("exact") => Some(Scheme::Exact),
            Some("batch-settlement") => Some(Scheme::Batch),
            Some(other) => return Err(format!("{other:?} is no scheme: exact or batch-settlement")),
        };
        Ok(Filter {
            since: time(&self.since)?,
            until: time(&self.until)?,
            route: self.route.clone(),
            payer: self.payer.clone(),
            state: self.state,
            scheme,
            id: None,
        })
    }
}

/// A day, an age, or milliseconds.
fn moment(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    let wrong = || format!("{text:?} is no time: a day (2026-11-21), an age (90m, 12h, 7d), or milliseconds since 1970");
    if let Some(day) = parse_day(text) {
        return Ok(day);
    }
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match &text[digits.len()..] {
        "" => return Ok(UnixMillis(count)),
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    Ok(UnixMillis(now.0.saturating_sub(count.saturating_mul(seconds).saturating_mul(1_000))))
}

pub async fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::List { chosen, limit, after, json } => match asked(&chosen) {
            Ok((operator, filter)) => list(&operator, &filter, after, limit, json).await,
            Err(error) => return usage(&error),
        },
        Command::Export { chosen, format } => match asked(&chosen) {
            Ok((operator, filter)) => export(&operator, &filter, format).await,
            Err(error) => return usage(&error),
        },
        Command::Show { id, which, json } => match Operator::find(which) {
            Ok(operator) => show(&operator, &id.to_ascii_lowercase(), json).await,
            Err(error) => return usage(&error),
        },
        Command::Grant { txid, hours, which } => match Operator::find(which) {
            Ok(operator) => grant(&operator, txid, hours),
            Err(error) => return usage(&error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn asked(chosen: &Chosen) -> Result<(Operator, Filter), String> {
    let filter = chosen.filter(clock::now())?;
    Ok((Operator::find(chosen.which.clone())?, filter))
}

async fn list(operator: &Operator, filter: &Filter, after: Cursor, limit: usize, json: bool) -> Result<(), AskError> {
    let mut books = Books::of(operator);
    let (mut entries, mut next) = (Vec::new(), Some(after));
    while let Some(place) = next.filter(|_| entries.len() < limit) {
        let page = books.page(filter, place, (limit - entries.len()).min(PAGE)).await?;
        entries.extend(page.entries);
        next = page.next;
    }
    if json {
        print_json(&serde_json::json!({ "entries": entries, "next": next }));
        return Ok(());
    }
    say(rows(&entries, clock::now(), Paint::stdout()).trim_end());
    if let Some(next) = next {
        eprintln!("there may be more: --after {next}");
    }
    Ok(())
}

fn rows(entries: &[Entry], now: UnixMillis, paint: Paint) -> String {
    if entries.is_empty() {
        return "no payments".to_owned();
    }
    let row = |entry: &Entry| {
        vec![
            plain(format!("{} ago", lasts(now.millis_since(entry.at) / 1_000))),
            state(entry.state),
            number(entry.amount.to_kas()),
            plain(visible(&entry.route, WORDS)),
            plain(entry.payer.as_deref().map_or("-".into(), tail)),
            plain(entry.id.to_string()[..SHORT].to_owned()),
            plain(visible(&entry.summary, WORDS)),
        ]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&["WHEN", "STATE", "AMOUNT", "ROUTE", "PAYER", "ID", "REQUEST"], &rows, paint)
}

fn state(state: EntryState) -> Cell {
    let ink: fn(Paint, &str) -> String = match state {
        EntryState::Delivered | EntryState::Claimed => |_, text| text.to_owned(),
        EntryState::Pending | EntryState::Settled | EntryState::PaidLate | EntryState::Charged => Paint::yellow,
        EntryState::Reversed | EntryState::Lost => Paint::red,
    };
    inked(state.as_str().replace('_', " "), ink)
}

/// What a client wrote cannot steer a terminal.
fn visible(text: &str, longest: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(longest).map(clean).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// The end of an address tells more than its beginning.
fn tail(payer: &str) -> String {
    let payer = visible(payer, 200);
    let from = payer.char_indices().rev().nth(11).map_or(0, |(index, _)| index);
    if from == 0 { payer } else { format!("…{}", &payer[from..]) }
}

async fn show(operator: &Operator, id: &str, json: bool) -> Result<(), AskError> {
    let detail = Books::of(operator).find(id).await?;
    if json {
        print_json(&detail);
    } else {
        say(shown(&detail, Paint::stdout()).trim_end());
    }
    Ok(())
}

fn shown(Detail { entry, response }: &Detail, paint: Paint) -> String {
    let or_none = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
    let mut rows = vec![
        (if entry.scheme == Scheme::Exact { "transaction" } else { "commitment" }, plain(entry.id.to_string())),
        ("state", state(entry.state)),
        ("scheme", plain(entry.scheme.as_str())),
        ("amount", plain(entry.amount.to_kas())),
        ("route", plain(visible(&entry.route, 200))),
        ("request", plain(visible(&entry.summary, 2_000))),
        ("payer", or_none(entry.payer.clone())),
        ("pays to", plain(entry.pay_to.clone())),
        ("at", plain(instant(entry.at))),
        ("delivered", or_none(entry.delivered_at.map(instant))),
        ("status", or_none(entry.status.map(|status| status.to_string()))),
        ("identifier", or_none(entry.identifier.as_ref().map(|identifier| identifier.as_str().to_owned()))),
    ];
    if let Some(channel) = entry.channel {
        let number = entry.number.map_or_else(|| "of the facilitator's".to_owned(), |number| format!("charge {number}"));
        rows.push(("channel", plain(format!("{channel}, {number}"))));
    } else {
        let accepted = entry.acceptance.map(|at| format!("at DAA score {} by block {}", at.daa_score, at.block));
        rows.push(("accepted", or_none(accepted)));
        rows.push(("good until", or_none(entry.entitled_until.map(instant))));
    }
    let kept = response.map(|kept| format!("status {}, {} headers, {} bytes", kept.status, kept.headers, kept.bytes));
    rows.push(("answer kept", or_none(kept)));
    let mut out = String::new();
    for (name, cell) in rows {
        let _ = writeln!(out, "{} {}", paint.dim(&format!("{name:<12}")), (cell.ink)(paint, &cell.text));
    }
    out
}

async fn export(operator: &Operator, filter: &Filter, format: Format) -> Result<(), AskError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut report = report::Builder::default();
    let mut books = Books::of(operator);
    let mut next = Some(Cursor::default());
    let mut line = match format {
        Format::Csv => csv::HEAD.to_owned(),
        Format::Jsonl | Format::Grant => String::new(),
    };
    while let Some(place) = next {
        let page = books.page(filter, place, PAGE).await?;
        for entry in &page.entries {
            match format {
                Format::Csv => csv::write(&mut line, entry),
                Format::Jsonl => line += &format!("{}\n", serde_json::to_string(entry).expect("entries are JSON")),
                Format::Grant => report.add(entry),
            }
        }
        if out.write_all(line.as_bytes()).is_err() {
            // Whoever read this went away.
            return Ok(());
        }
        line.clear();
        next = page.next;
    }
    if let Format::Grant = format {
        let report = report.finish(filter.since, filter.until, clock::now());
        line = format!("{}\n", serde_json::to_string_pretty(&report).expect("a report is JSON"));
    }
    let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(AskError::Refused(format!("the export cannot be written: {error}"))),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
struct Answer {
    granted: crate::gateway::ledger::Granted,
}

fn grant(operator: &Operator, txid: TxId, hours: u64) -> Result<(), AskError> {
    use crate::gateway::ledger::Granted;
    let answer: Answer = operator.post(&format!("/payments/{txid}/grant?seconds={}", hours.saturating_mul(3_600)))?;
    match answer.granted {
        Granted::Done => {
            say(format!("{txid} is good for its request again"));
            Ok(())
        }
        Granted::Unchanged | Granted::Unknown => {
            Err(AskError::Refused("nothing to grant: it is neither late nor owed, or good for longer already".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ledger::samples::entry;

    #[test]
    fn a_time_is_a_day_an_age_or_milliseconds() {
        let now = UnixMillis(1_000_000_000_000);
        for (text, expect) in [
            ("1970-01-02", Some(86_400_000)),
            ("90m", Some(now.0 - 5_400_000)),
            ("12h", Some(now.0 - 43_200_000)),
            ("7d", Some(now.0 - 604_800_000)),
            ("99999999999d", Some(0)),
            ("1234", Some(1_234)),
            ("7w", None),
            ("d", None),
            ("", None),
            ("-7d", None),
            ("2026-02-30", None),
        ] {
            assert_eq!(moment(text, now).ok(), expect.map(UnixMillis), "{text}");
        }
    }

    #[test]
    fn a_list_shows_each_entry_and_no_client_steers_the_terminal() {
        let mut evil = entry(1, EntryState::Delivered);
        evil.summary = format!("GET /\u{1b}[2J{}", "x".repeat(100));
        let text = rows(&[evil, entry(2, EntryState::Reversed)], UnixMillis(9_000_000), Paint::PLAIN);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\u{1b}') && text.contains('…') && text.contains("reversed"), "{text}");
        assert_eq!(rows(&[], UnixMillis(0), Paint::PLAIN), "no payments");
        assert_eq!(tail("kaspasim:qqqqqqqqqqqqqqqqqqqqabcdefghijkl"), "…abcdefghijkl");
        assert_eq!(tail("short"), "short");
    }
}
