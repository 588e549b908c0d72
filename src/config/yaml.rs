//! YAML text to a tree that knows where every node stands.
//!
//! Promises: bounded work on hostile text (size, depth, aliases), duplicate keys and merge keys refused,
//! `true`/`false` as the only booleans. Says nothing about meaning: `shape` reads the tree.

use super::problem::{Code, Pos, Problem};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// Largest configuration, bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    pub at: Pos,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Null,
    Bool(bool),
    /// Integers keep their digits; other numbers are never wanted.
    Int(i128),
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub at: Pos,
    pub text: String,
}

impl Kind {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads one document.
pub fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(Code::FileTooLarge, Pos::START, format!("the file is larger than {MAX_BYTES} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 24,
            max_nodes: 100_000,
            max_aliases: 100,
            max_anchors: 100,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        strict_booleans: true,
        strict_indentation: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options).map(node).map_err(|error| {
        let at = error.location().map_or(Pos::START, |at| pos(&at));
        // Its prose repeats the place after " at line"; ours stands in front.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Problem::new(Code::YamlSyntax, at, message.lines().next().unwrap_or_default().to_owned())
    })
}

fn pos(location: &Location) -> Pos {
    Pos { line: location.line().max(1), column: location.column().max(1) }
}

fn node(spanned: Spanned<Tree>) -> Node {
    Node { at: pos(&spanned.referenced), kind: spanned.value.0 }
}

/// Only a carrier for `Deserialize`.
struct Tree(Kind);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Int(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Kind, E> {
        i128::try_from(value).map(Kind::Int).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Tree>>()? {
            items.push(node(item));
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if entries.iter().any(|(earlier, _)| earlier.text == key.value) {
                return Err(A::Error::custom(format!("duplicate key `{}`", key.value)));
            }
            let value = map.next_value::<Spanned<Tree>>()?;
            entries.push((Key { at: pos(&key.referenced), text: key.value }, node(value)));
        }
        Ok(Kind::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_place() {
        let root = parse("a: 1\nb:\n  - x: true\n    y: \"0.25 KAS\"\n  - ~\n5: text\n").unwrap();
        let Kind::Map(entries) = &root.kind else { panic!("{root:?}") };
        let [(a, one), (b, list), (five, _)] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((a.text.as_str(), a.at, one.at), ("a", Pos { line: 1, column: 1 }, Pos { line: 1, column: 4 }));
        assert_eq!((b.at.line, five.text.as_str(), five.at.line), (2, "5", 6));
        let Kind::List(items) = &list.kind else { panic!("{list:?}") };
        let Kind::Map(item) = &items[0].kind else { panic!("{items:?}") };
        assert_eq!((item[1].0.at, item[1].1.at), (Pos { line: 4, column: 5 }, Pos { line: 4, column: 8 }));
        assert!(matches!(items[1].kind, Kind::Null));
    }

    #[test]
    fn hostile_and_ambiguous_yaml_is_refused_with_its_place() {
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
            (0..9).map(|i| format!("b{i}: &b{i} [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n")).collect::<String>()
        );
        for (text, line) in [
            ("a: 1\na: 2\n", Some(2)),
            ("a:\n  b: 1\n  b: 2\n", Some(3)),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", Some(3)),
            ("a: [1, 2\n", None),
            ("a: 1\n---\nb: 2\n", None),
            ("a: 1\n  b: 2\n", None),
            (&bomb, None),
            (&format!("a: {}", "[".repeat(100)), None),
            (&format!("# {}", "x".repeat(MAX_BYTES)), Some(1)),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(line.is_none_or(|line| problem.at.line == line), "{problem:?} of {:.60}", text);
        }
    }
}
