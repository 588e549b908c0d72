//! `kas402 reconcile`: a running gateway compares its store with the chain.
//!
//! Exit codes: 0 everything agrees (or was repaired), 1 it could not be asked, 2 a mistake in how it was asked, 3 differences
//! are left.

use super::{
    channels::{print_json, short, usage},
    fail,
    operator::{AskError, Operator, Which},
    paint::Paint,
    say,
    table::{Cell, inked, number, plain, table},
};
use crate::gateway::{
    ledger::Cursor,
    reconcile::{Difference, Reconciled, Remedy},
};
use std::process::ExitCode;

/// Differences are left.
const DIFFERENT: u8 = 3;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Book what the node proves; everything else stays as it is
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    which: Which,
    /// For programs: one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> ExitCode {
    let Args { repair, which, json } = args;
    let operator = match Operator::find(which) {
        Ok(operator) => operator,
        Err(error) => return usage(&error),
    };
    let whole = match walk(&operator, repair) {
        Ok(whole) => whole,
        Err(error) => return fail(error),
    };
    if json {
        print_json(&whole);
    } else {
        say(told(&whole, Paint::stdout()).trim_end());
    }
    let left = whole.differences.iter().any(|difference| difference.remedy != Remedy::Repaired);
    if left { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS }
}

/// Page by page; differences are few.
fn walk(operator: &Operator, repair: bool) -> Result<Reconciled, AskError> {
    let mut whole = Reconciled::default();
    let mut next = Some(Cursor::default());
    while let Some(after) = next {
        let page: Reconciled = operator.post(&format!("/reconcile?after={after}&repair={repair}"))?;
        whole.checked += page.checked;
        whole.unverified += page.unverified;
        whole.differences.extend(page.differences);
        next = page.next;
    }
    Ok(whole)
}

fn told(whole: &Reconciled, paint: Paint) -> String {
    let unverified = match whole.unverified {
        0 => String::new(),
        count => format!("; {count} the node can tell nothing of"),
    };
    let summary = format!("{} records compared with the chain{unverified}", whole.checked);
    if whole.differences.is_empty() {
        return format!("no differences: {summary}");
    }
    let row = |difference: &Difference| {
        let subject = match (difference.txid, &difference.channel) {
            (Some(txid), _) => format!("payment {txid}"),
            (_, Some(channel)) => format!("channel {}", short(channel)),
            (None, None) => String::new(),
        };
        vec![
            plain(subject),
            inked(difference.what.as_str().replace('_', " "), Paint::red),
            number(difference.amount.to_kas()),
            plain(difference.store.clone()),
            plain(difference.chain.clone()),
            remedy(difference.remedy),
        ]
    };
    let rows: Vec<_> = whole.differences.iter().map(row).collect();
    format!("{}{summary}", table(&["RECORD", "DIFFERENCE", "AMOUNT", "STORE", "CHAIN", "REPAIR"], &rows, paint))
}

fn remedy(remedy: Remedy) -> Cell {
    match remedy {
        Remedy::Repaired => inked("repaired", Paint::green),
        Remedy::Provable => inked("with --repair", Paint::yellow),
        Remedy::NotFinal => plain("not final yet"),
        Remedy::ByHand => inked("by hand", Paint::red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::reconcile::What,
        protocol::{amount::Amount, ids::TxId},
    };

    #[test]
    fn differences_are_told_with_what_can_be_done() {
        let difference = |remedy| Difference {
            what: What::NotOnChain,
            txid: Some(TxId([7; 32])),
            channel: None,
            amount: Amount::from_sompi(25_000_000).unwrap(),
            store: "delivered, final".into(),
            chain: "nothing".into(),
            remedy,
        };
        let all = [Remedy::Provable, Remedy::Repaired, Remedy::NotFinal, Remedy::ByHand];
        let whole = Reconciled { checked: 9, unverified: 2, differences: all.map(difference).to_vec(), next: None };
        let text = told(&whole, Paint::PLAIN);
        for part in ["not on chain", "with --repair", "repaired", "not final yet", "by hand", "0.25 KAS", "9 records", "2 the node"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert_eq!(
            told(&Reconciled { checked: 9, ..Reconciled::default() }, Paint::PLAIN),
            "no differences: 9 records compared with the chain"
        );
    }
}
