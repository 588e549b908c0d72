//! Reading the tree into the raw mirror, every fault at once, and the same shapes as JSON Schema.
//!
//! A shape is read and described in one place, so the file that is accepted and the schema cannot
//! drift apart. `section!` declares a mapping: its keys, their docs and their defaults.

use super::{
    problem::{Code, Pos, Problems},
    yaml::{Key, Kind, Node},
};
use serde_json::{Value, json};

/// A kind of value in the file.
pub trait Shape: Sized {
    /// `None` when it is not of this shape; the reason is then among the problems.
    fn read(node: &Node, problems: &mut Problems) -> Option<Self>;

    fn schema() -> Value;
}

/// A value and where it stands.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    pub at: Pos,
    pub value: T,
}

impl<T: Shape> At<T> {
    pub fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        Some(Self { at: node.at, value: T::read(node, problems)? })
    }
}

pub fn wrong(node: &Node, wanted: &str, problems: &mut Problems) {
    problems.push(Code::WrongType, node.at, format!("this must be {wanted}, not {}", node.kind.name()));
}

impl Shape for bool {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.kind {
            Kind::Bool(flag) => return Some(flag),
            _ => wrong(node, "true or false", problems),
        }
        None
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }
}

impl Shape for u64 {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.kind {
            Kind::Int(number) => match u64::try_from(number) {
                Ok(number) => return Some(number),
                Err(_) => problems.push(Code::BadValue, node.at, "this must be between 0 and 18446744073709551615"),
            },
            _ => wrong(node, "a whole number", problems),
        }
        None
    }

    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0})
    }
}

/// Text; whole numbers and booleans count as their text, fractions must be quoted.
impl Shape for String {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => return Some(text.clone()),
            Kind::Int(number) => return Some(number.to_string()),
            Kind::Bool(flag) => return Some(flag.to_string()),
            Kind::Float => problems.push(Code::WrongType, node.at, "put this number in quotes"),
            _ => wrong(node, "text", problems),
        }
        None
    }

    fn schema() -> Value {
        json!({"type": ["string", "integer", "boolean"]})
    }
}

/// A list; each element keeps its place.
impl<T: Shape> Shape for Vec<At<T>> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            wrong(node, "a list", problems);
            return None;
        };
        Some(items.iter().filter_map(|item| At::read(item, problems)).collect())
    }

    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, Default)]
pub struct OneOrMany<T>(pub Vec<At<T>>);

impl<T: Shape> Shape for OneOrMany<T> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::read(node, problems).map(Self),
            _ => At::read(node, problems).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Value {
        json!({"oneOf": [T::schema(), Vec::<At<T>>::schema()]})
    }
}

/// A mapping with names of the operator's choice.
#[derive(Clone, Debug, Default)]
pub struct Named<T>(pub Vec<(Key, At<T>)>);

impl<T: Shape> Shape for Named<T> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, problems)?;
        Some(Self(entries.iter().filter_map(|(key, value)| Some((key.clone(), At::read(value, problems)?))).collect()))
    }

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

pub fn entries<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n [(Key, Node)]> {
    match &node.kind {
        Kind::Map(entries) => Some(entries),
        _ => {
            wrong(node, "a mapping", problems);
            None
        }
    }
}

pub fn unknown_key(key: &Key, known: &[&str], problems: &mut Problems) {
    let near = known.iter().find(|name| distance(name, &key.text) <= 2);
    let hint = near.map_or_else(|| format!("known here: {}", known.join(", ")), |name| format!("did you mean {name}?"));
    problems.push(Code::UnknownKey, key.at, format!("unknown key {:?}; {hint}", key.text));
}

/// Edits from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

/// A mapping with fixed keys. `key: Type = default` makes a method that answers the default,
/// `key: Type [required]` reports its absence.
macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $field_doc:literal])* $field:ident: $ty:ty $([$required:ident])? $(= $default:expr)?,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            #[allow(dead_code, reason = "the same parts for every section")]
            pub at: $crate::config::problem::Pos,
            /// The keys the file has, also those whose value is wrong.
            #[allow(dead_code, reason = "the same parts for every section")]
            pub written: Vec<&'static str>,
            $($(#[doc = $field_doc])* pub $field: Option<$crate::config::shape::At<$ty>>,)*
        }

        impl $name {
            $($(
                /// As written, else the default.
                #[allow(dead_code, reason = "the same parts for every section")]
                pub fn $field(&self) -> $ty {
                    self.$field.as_ref().map_or_else(|| $default.into(), |field| field.value.clone())
                }
            )?)*
        }

        impl $crate::config::shape::Shape for $name {
            fn read(node: &$crate::config::yaml::Node, problems: &mut $crate::config::problem::Problems) -> Option<Self> {
                let mut section = Self { at: node.at, ..Self::default() };
                let entries = $crate::config::shape::entries(node, problems)?;
                for (key, value) in entries {
                    match key.text.as_str() {
                        $(name if name == stringify!($field) => {
                            section.written.push(stringify!($field));
                            section.$field = $crate::config::shape::At::read(value, problems);
                        })*
                        _ => $crate::config::shape::unknown_key(key, &[$(stringify!($field)),*], problems),
                    }
                }
                $($(
                    let _ = stringify!($required);
                    if !section.written.contains(&stringify!($field)) {
                        problems.push($crate::config::problem::Code::MissingKey, node.at, concat!("`", stringify!($field), "` must be written"));
                    }
                )?)*
                Some(section)
            }

            fn schema() -> serde_json::Value {
                let mut properties = serde_json::Map::new();
                let required: &[&str] = &[$($({ let _ = stringify!($required); stringify!($field) },)?)*];
                $(
                    let mut field = <$ty as $crate::config::shape::Shape>::schema();
                    if let Some(object) = field.as_object_mut() {
                        object.insert("description".into(), concat!($($field_doc),*).trim_ascii().into());
                        $(object.insert("default".into(), serde_json::json!($default));)?
                    }
                    properties.insert(stringify!($field).into(), field);
                )*
                let mut schema = serde_json::json!({
                    "type": "object",
                    "additionalProperties": false,
                    "properties": properties,
                });
                if !required.is_empty() {
                    schema["required"] = serde_json::json!(required);
                }
                schema
            }
        }
    };
}

/// A closed list of words.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
        pub enum $name { $(#[serde(rename = $word)] $variant,)* }

        impl $crate::config::shape::Shape for $name {
            fn read(node: &$crate::config::yaml::Node, problems: &mut $crate::config::problem::Problems) -> Option<Self> {
                let text = String::read(node, problems)?;
                match text.as_str() {
                    $($word => return Some(Self::$variant),)*
                    _ => problems.push($crate::config::problem::Code::BadValue, node.at, concat!("this must be one of:" $(, " ", $word)*)),
                }
                None
            }

            fn schema() -> serde_json::Value {
                // `404` reads as a number in YAML.
                let number = |word: &str| word.parse::<u64>().ok().map(serde_json::Value::from);
                let words = [$($word),*].into_iter().flat_map(|word| [Some(word.into()), number(word)]).flatten();
                serde_json::json!({"enum": words.collect::<Vec<serde_json::Value>>()})
            }
        }
    };
}

pub(super) use {section, words};
