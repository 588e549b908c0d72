//! One line for each entry, as RFC 4180 has it, and safe to open in a spreadsheet.
//!
//! What a client wrote stands in some fields. A text that a spreadsheet would run as a formula gets an apostrophe before it.

use crate::gateway::ledger::{Entry, date::instant};

/// New columns come last.
pub(super) const HEAD: &str = "time,scheme,network,state,amount_sompi,amount,route,payer,pay_to,id,channel,charge,status,identifier,accepted_daa,delivered,request\r\n";

pub(super) fn write(out: &mut String, entry: &Entry) {
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    let fields = [
        instant(entry.at),
        entry.scheme.as_str().to_owned(),
        entry.network.to_string(),
        entry.state.as_str().to_owned(),
        entry.amount.to_string(),
        entry.amount.to_kas(),
        entry.route.clone(),
        or_empty(entry.payer.clone()),
        entry.pay_to.clone(),
        entry.id.to_string(),
        or_empty(entry.channel.map(|channel| channel.to_string())),
        or_empty(entry.number.map(|number| number.to_string())),
        or_empty(entry.status.map(|status| status.to_string())),
        or_empty(entry.identifier.as_ref().map(|identifier| identifier.as_str().to_owned())),
        or_empty(entry.acceptance.map(|at| at.daa_score.to_string())),
        or_empty(entry.delivered_at.map(instant)),
        entry.summary.clone(),
    ];
    for (index, text) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        field(out, text);
    }
    out.push_str("\r\n");
}

fn field(out: &mut String, text: &str) {
    // Spreadsheets skip blanks before they look for a formula, and some read the full-width signs as the plain ones.
    let first = text.trim_start().chars().next();
    let formula = matches!(first, Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')) || text.starts_with(['\t', '\r', '\n']);
    let guard = if formula { "'" } else { "" };
    if formula || text.contains([',', '"', '\r', '\n', ';', '\t']) || text.starts_with(' ') || text.ends_with(' ') {
        out.push('"');
        out.push_str(guard);
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ledger::{EntryState, samples::entry};

    #[test]
    fn fields_are_quoted_and_no_field_is_a_formula() {
        for (text, expect) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("  =1", "\"'  =1\""),
            ("\t=1", "\"'\t=1\""),
            ("\rx", "\"'\rx\""),
            ("＝1", "\"'＝1\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("a=1", "a=1"),
            ("1;2", "\"1;2\""),
        ] {
            let mut out = String::new();
            field(&mut out, text);
            assert_eq!(out, expect, "{text:?}");
        }
    }

    #[test]
    fn a_line_has_a_field_for_each_column() {
        let mut out = String::new();
        write(&mut out, &entry(1, EntryState::Delivered));
        assert_eq!(out.matches(',').count(), HEAD.matches(',').count(), "{out}");
        assert!(out.ends_with("\r\n") && out.contains(",exact,kaspa:simnet,delivered,"), "{out}");
    }
}
