//! What was done and seen, for people (Markdown) and programs (JSON). The same facts in both.

use crate::{
    gateway::ledger::date,
    protocol::{amount::Amount, network::Network, time::UnixMillis},
};
use serde_json::{Map, Value, json};

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Amount(Amount),
    Text(String),
    Number(u64),
}

/// Facts by name, in the order in which they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(Vec<(&'static str, Fact)>);

/// One flow.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: &'static str,
    /// What must be so.
    pub expects: &'static str,
    pub facts: Facts,
    /// Why it is not so.
    pub failure: Option<String>,
    pub took_millis: u64,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Report {
    pub network: Network,
    pub node_version: Option<String>,
    pub buyer: String,
    pub seller: String,
    pub began: UnixMillis,
    pub daa_score: u64,
    pub steps: Vec<Step>,
    /// How many there should be.
    pub planned: usize,
}

impl Facts {
    pub fn amount(mut self, name: &'static str, amount: Amount) -> Self {
        self.0.push((name, Fact::Amount(amount)));
        self
    }

    pub fn text(mut self, name: &'static str, text: impl ToString) -> Self {
        self.0.push((name, Fact::Text(text.to_string())));
        self
    }

    pub fn number(mut self, name: &'static str, number: u64) -> Self {
        self.0.push((name, Fact::Number(number)));
        self
    }

    fn json(&self) -> Value {
        let value = |fact: &Fact| match fact {
            Fact::Amount(amount) => json!(amount),
            Fact::Text(text) => json!(text),
            Fact::Number(number) => json!(number),
        };
        let mut facts = Map::new();
        for (name, fact) in &self.0 {
            // What was seen more than once is a list.
            match facts.get_mut(*name) {
                None => drop(facts.insert((*name).to_owned(), value(fact))),
                Some(Value::Array(seen)) => seen.push(value(fact)),
                Some(one) => *one = json!([one.take(), value(fact)]),
            }
        }
        Value::Object(facts)
    }
}

impl Report {
    /// Whether everything was done, and was as it must be.
    pub fn passed(&self) -> bool {
        self.steps.len() == self.planned && self.steps.iter().all(|step| step.failure.is_none())
    }

    /// Amounts are decimal strings of sompi, as on the wire.
    pub fn json(&self) -> Value {
        let step = |step: &Step| {
            json!({
                "name": step.name, "expects": step.expects, "passed": step.failure.is_none(), "failure": step.failure,
                "tookMillis": step.took_millis, "facts": step.facts.json(),
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network": self.network,
            "nodeVersion": self.node_version,
            "began": date::instant(self.began),
            "daaScore": self.daa_score.to_string(),
            "buyer": self.buyer,
            "seller": self.seller,
            "passed": self.passed(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
        })
    }

    pub fn markdown(&self) -> String {
        let node = self.node_version.as_deref().unwrap_or("unknown");
        let verdict = if self.passed() { "every flow passed" } else { "NOT passed" };
        let mut text = format!(
            "# kas402 {} on {}: {verdict}\n\n| | |\n|---|---|\n| node | kaspad {node} |\n| DAA score at the beginning | {} |\n\
             | began | {} |\n| buyer | `{}` |\n| seller | `{}` |\n",
            env!("CARGO_PKG_VERSION"),
            self.network,
            self.daa_score,
            date::instant(self.began),
            self.buyer,
            self.seller,
        );
        for (number, step) in (1..).zip(&self.steps) {
            let verdict = if step.failure.is_none() { "passed" } else { "FAILED" };
            text += &format!("\n## {number}. {}: {verdict}\n\n{}. {} ms.\n", step.name, step.expects, step.took_millis);
            if let Some(failure) = &step.failure {
                text += &format!("\n**{}**\n", cell(failure));
            }
            if !step.facts.0.is_empty() {
                text += "\n| | |\n|---|---|\n";
            }
            for (name, fact) in &step.facts.0 {
                let shown = match fact {
                    Fact::Amount(amount) => amount.to_kas(),
                    Fact::Text(text) => format!("`{}`", cell(text)),
                    Fact::Number(number) => number.to_string(),
                };
                text += &format!("| {name} | {shown} |\n");
            }
        }
        text
    }
}

/// Foreign words cannot leave their place in a table.
fn cell(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '|' | '`' | '\n' | '\r') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(steps: Vec<Step>) -> Report {
        Report {
            network: Network::Simnet,
            node_version: Some("2.1.0".into()),
            buyer: "kaspasim:buyer".into(),
            seller: "kaspasim:seller".into(),
            began: UnixMillis(5),
            daa_score: 7,
            steps,
            planned: 2,
        }
    }

    fn step(name: &'static str, failure: Option<&str>) -> Step {
        let facts =
            Facts::default().amount("price", Amount::from_sompi(25_000_000).unwrap()).text("told", "a|b`c\nd").number("status", 409);
        Step { name, expects: "it is so", facts, failure: failure.map(str::to_owned), took_millis: 3 }
    }

    #[test]
    fn what_was_seen_more_than_once_is_a_list() {
        let facts = Facts::default().number("charged", 1).text("other", "x").number("charged", 2).number("charged", 3);
        assert_eq!(facts.json(), json!({"charged": [1, 2, 3], "other": "x"}));
    }

    #[test]
    fn both_reports_say_the_same_and_whether_everything_passed() {
        let whole = report(vec![step("one", None), step("two", None)]);
        assert!(whole.passed() && whole.markdown().contains("every flow passed"));
        let json = whole.json();
        assert_eq!(json["steps"][1]["facts"], json!({"price": "25000000", "told": "a|b`c\nd", "status": 409}));
        let text = whole.markdown();
        for part in [
            "## 1. one: passed",
            "| price | 0.25 KAS |",
            "| told | `a b c d` |",
            "| status | 409 |",
            "kaspasim:seller",
            "| began | 1970-01-01T00:00:00.005Z |",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        for broken in [report(vec![step("one", None)]), report(vec![step("one", None), step("two", Some("no"))])] {
            assert!(!broken.passed() && broken.json()["passed"] == false && broken.markdown().contains("NOT passed"));
        }
        assert!(report(vec![step("one", Some("it | broke"))]).markdown().contains("**it   broke**"));
    }
}
