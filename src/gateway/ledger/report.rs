//! Volume and users, as evidence for somebody else (`kas402 payments export --format grant`).
//!
//! Promises: one row for each day, route and scheme with counts and sums, and one hash over exactly the payments of the row, so
//! that the numbers can be checked against a list of them, and one payment shown to be among them without showing the
//! others. Names no payer and no request. Memory grows with rows and payers, not with payments.

use super::{Entry, EntryState, Scheme, date};
use crate::protocol::{network::Network, time::UnixMillis};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// Changes when a member changes its meaning.
const VERSION: u32 = 1;

/// The report, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub report: &'static str,
    pub version: u32,
    pub made_at: String,
    pub from: Option<String>,
    pub until: Option<String>,
    pub totals: Counts,
    pub rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub day: String,
    pub network: Network,
    pub route: String,
    pub scheme: Scheme,
    #[serde(flatten)]
    pub counts: Counts,
    /// Merkle root of the payments of this row, hex.
    pub root: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Charged, and not taken back.
    pub payments: u64,
    /// Different payers among them: addresses of payments, client keys of channels. Payments without a known payer count as none.
    pub payers: u64,
    #[serde(serialize_with = "as_text")]
    pub charged_sompi: u128,
    /// Of it, what the chain has moved: payments, and charges that an accepted claim covers.
    #[serde(serialize_with = "as_text")]
    pub on_chain_sompi: u128,
    /// Charged first and then taken back by a conflicting spend; in none of the sums.
    pub reversed: u64,
}

fn as_text<S: serde::Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sum)
}

/// A report in the making: give it every entry in the order of the list.
#[derive(Debug, Default)]
pub struct Builder {
    rows: BTreeMap<(String, Network, String, Scheme), Group>,
    all: Group,
}

#[derive(Debug, Default)]
struct Group {
    counts: Counts,
    /// Half a SHA-256 of each payer: enough to tell millions apart.
    payers: HashSet<[u8; 16]>,
    tree: Tree,
}

impl Builder {
    pub fn add(&mut self, entry: &Entry) {
        if !matches!(
            entry.state,
            EntryState::Settled
                | EntryState::Delivered
                | EntryState::Reversed
                | EntryState::Charged
                | EntryState::Claimed
                | EntryState::Lost
        ) {
            return;
        }
        let key = (date::day(entry.at), entry.network, entry.route.clone(), entry.scheme);
        self.rows.entry(key).or_default().add(entry);
        self.all.add(entry);
    }

    pub fn finish(self, from: Option<UnixMillis>, until: Option<UnixMillis>, made_at: UnixMillis) -> Report {
        let row = |((day, network, route, scheme), group): ((String, Network, String, Scheme), Group)| {
            let (counts, tree) = group.finish();
            Row { day, network, route, scheme, counts, root: hex::encode(tree.root()) }
        };
        Report {
            report: "kas402-volume",
            version: VERSION,
            made_at: date::instant(made_at),
            from: from.map(date::instant),
            until: until.map(date::instant),
            totals: self.all.finish().0,
            rows: self.rows.into_iter().map(row).collect(),
        }
    }
}

impl Group {
    fn add(&mut self, entry: &Entry) {
        if entry.state == EntryState::Reversed {
            self.counts.reversed += 1;
            return;
        }
        let sompi = u128::from(entry.amount.sompi());
        self.counts.payments += 1;
        // An amount is below 2^63 and a count below 2^64: no sum of them overflows 128 bits.
        self.counts.charged_sompi += sompi;
        if !matches!(entry.state, EntryState::Charged | EntryState::Lost) {
            self.counts.on_chain_sompi += sompi;
        }
        if let Some(payer) = &entry.payer {
            let digest: [u8; 32] = Sha256::digest(payer.as_bytes()).into();
            let (half, _) = digest.split_first_chunk().expect("16 of 32 bytes");
            self.payers.insert(*half);
        }
        self.tree.push(leaf(&entry.id.0, entry.amount.sompi()));
    }

    fn finish(self) -> (Counts, Tree) {
        (Counts { payers: u64::try_from(self.payers.len()).unwrap_or(u64::MAX), ..self.counts }, self.tree)
    }
}

type Hash = [u8; 32];

fn leaf(id: &Hash, sompi: u64) -> Hash {
    Sha256::new().chain_update([0]).chain_update(id).chain_update(sompi.to_le_bytes()).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The tree of RFC 6962, of which only the right edge is kept.
#[derive(Debug, Default)]
struct Tree {
    /// Complete subtrees from left to right, each with its height.
    edge: Vec<(u32, Hash)>,
}

impl Tree {
    fn push(&mut self, leaf: Hash) {
        let mut last = (0, leaf);
        while let Some((height, left)) = self.edge.pop_if(|(height, _)| *height == last.0) {
            last = (height + 1, node(&left, &last.1));
        }
        self.edge.push(last);
    }

    /// Of nothing: the hash of nothing.
    fn root(mut self) -> Hash {
        let Some((_, mut root)) = self.edge.pop() else { return Sha256::digest([]).into() };
        while let Some((_, left)) = self.edge.pop() {
            root = node(&left, &root);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let split = n.next_power_of_two() / 2;
                node(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_whole_tree() {
        for n in 0..70u64 {
            let leaves: Vec<Hash> = (0..n).map(|k| leaf(&[7; 32], k)).collect();
            let mut tree = Tree::default();
            leaves.iter().for_each(|leaf| tree.push(*leaf));
            assert_eq!(tree.root(), by_definition(&leaves), "{n}");
        }
    }
}
