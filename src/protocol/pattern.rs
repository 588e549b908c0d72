//! Path patterns and the tree that finds them, most specific first.
//!
//! A pattern is `/a/b`, with `{name}` for one non-empty segment or a part of one (`/v1/{model}:run`)
//! and `{*name}` as the last segment for all that is left, which may be empty after its slash.
//! Unlike a first-match table, a look-up walks *all* matching patterns in order of specificity, so a
//! route that does not take the method leaves the request to the next one. Called by `route`.

use super::path::NormalPath;
use std::{collections::HashMap, ops::ControlFlow};

/// One part of a pattern between two slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Literal(String),
    /// One segment that starts and ends with the given texts and has at least one byte between them.
    Param {
        prefix: String,
        suffix: String,
    },
    /// Everything that is left.
    Rest,
}

/// A parsed pattern. Names of parameters carry no meaning and are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub parts: Vec<Part>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a path starts with /")]
    NotAbsolute,
    #[error("braces do not pair up: write {{name}} or {{*name}}, and %7B for a brace itself")]
    Braces,
    #[error("a segment can hold one parameter")]
    TwoParameters,
    #[error("a parameter needs a name of letters, digits and _")]
    Name,
    #[error("{{*name}} must be a whole segment, and the last one")]
    RestNotLast,
    #[error("write the path in its normal form: {0}")]
    NotNormal(String),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let body = text.strip_prefix('/').ok_or(PatternError::NotAbsolute)?;
        let parts: Vec<Part> = body.split('/').map(part).collect::<Result<_, _>>()?;
        if parts.iter().rev().skip(1).any(|part| *part == Part::Rest) {
            return Err(PatternError::RestNotLast);
        }
        // Requests arrive in normal form: a pattern in another one would never match. `p` stands for parameters.
        let plain = parts.iter().fold(String::new(), |path, part| match part {
            Part::Literal(text) => path + "/" + text,
            Part::Param { prefix, suffix } => path + "/" + prefix + "p" + suffix,
            Part::Rest => path + "/p",
        });
        match NormalPath::parse(&plain, true) {
            Ok(normal) if normal.as_str() == plain => Ok(Self { parts }),
            Ok(normal) => Err(PatternError::NotNormal(format!("{normal} instead of {plain}"))),
            Err(reason) => Err(PatternError::NotNormal(reason.to_string())),
        }
    }

    /// Whether it matches exactly one path.
    pub fn is_static(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether every path that matches `other` matches this too.
    pub fn covers(&self, other: &Self) -> bool {
        parts_cover(&self.parts, &other.parts)
    }
}

fn parts_cover(a: &[Part], b: &[Part]) -> bool {
    match (a, b) {
        ([], []) => true,
        // What is left may be an empty segment, but not nothing.
        ([Part::Rest, ..], b) => !b.is_empty(),
        ([x, a @ ..], [y, b @ ..]) => part_covers(x, y) && parts_cover(a, b),
        _ => false,
    }
}

fn part_covers(a: &Part, b: &Part) -> bool {
    match (a, b) {
        (Part::Literal(a), Part::Literal(b)) => a == b,
        (Part::Param { prefix, suffix }, Part::Literal(text)) => fits(text, prefix, suffix),
        (Part::Param { prefix: p, suffix: s }, Part::Param { prefix: q, suffix: t }) => {
            q.starts_with(p.as_str()) && t.ends_with(s.as_str())
        }
        _ => false,
    }
}

fn fits(segment: &str, prefix: &str, suffix: &str) -> bool {
    segment.len() > prefix.len() + suffix.len() && segment.starts_with(prefix) && segment.ends_with(suffix)
}

fn part(segment: &str) -> Result<Part, PatternError> {
    let Some((prefix, tail)) = segment.split_once('{') else {
        return if segment.contains('}') { Err(PatternError::Braces) } else { Ok(Part::Literal(segment.to_owned())) };
    };
    let (name, suffix) = tail.split_once('}').ok_or(PatternError::Braces)?;
    if suffix.contains('{') {
        return Err(PatternError::TwoParameters);
    }
    if prefix.contains('}') || suffix.contains('}') || name.contains('{') {
        return Err(PatternError::Braces);
    }
    let (rest, name) = name.strip_prefix('*').map_or((false, name), |name| (true, name));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(PatternError::Name);
    }
    match (rest, prefix, suffix) {
        (true, "", "") => Ok(Part::Rest),
        (true, _, _) => Err(PatternError::RestNotLast),
        (false, prefix, suffix) => Ok(Part::Param { prefix: prefix.to_owned(), suffix: suffix.to_owned() }),
    }
}

/// Values under patterns.
#[derive(Debug)]
pub struct PatternTree<T> {
    root: Node<T>,
    /// Whether `/files/{*rest}` also matches `/files`; for look-alike keys, which have no trailing slash.
    rest_matches_nothing: bool,
}

#[derive(Debug)]
struct Node<T> {
    here: Option<T>,
    literals: HashMap<String, Node<T>>,
    /// Longest prefix first, then longest suffix: the most specific.
    params: Vec<(String, String, Node<T>)>,
    rest: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { here: None, literals: HashMap::new(), params: Vec::new(), rest: None }
    }
}

impl<T: Default> PatternTree<T> {
    pub fn new(rest_matches_nothing: bool) -> Self {
        Self { root: Node::default(), rest_matches_nothing }
    }

    /// The value of a pattern, made when there is none.
    pub fn entry(&mut self, pattern: &Pattern) -> &mut T {
        let mut node = &mut self.root;
        for part in &pattern.parts {
            node = match part {
                Part::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Part::Param { prefix, suffix } => node.param(prefix, suffix),
                Part::Rest => return node.rest.get_or_insert_default(),
            };
        }
        node.here.get_or_insert_default()
    }
}

impl<T> Node<T> {
    fn param(&mut self, prefix: &str, suffix: &str) -> &mut Self {
        let found = self.params.iter().position(|(p, s, _)| p == prefix && s == suffix);
        let index = found.unwrap_or_else(|| {
            let shorter = |(p, s, _): &(String, String, Node<T>)| (p.len(), s.len()) < (prefix.len(), suffix.len());
            let index = self.params.iter().position(shorter).unwrap_or(self.params.len());
            self.params.insert(index, (prefix.to_owned(), suffix.to_owned(), Self::default()));
            index
        });
        &mut self.params[index].2
    }
}

impl<T> PatternTree<T> {
    /// Shows the value of every pattern that matches, most specific first, until `visit` breaks.
    /// A node is reached by one number of segments only, so the work is at most one step per pattern part.
    pub fn walk<'t, B>(&'t self, segments: &[&str], visit: &mut impl FnMut(&'t T) -> ControlFlow<B>) -> ControlFlow<B> {
        self.walk_from(&self.root, segments, visit)
    }

    fn walk_from<'t, B>(&'t self, node: &'t Node<T>, segments: &[&str], visit: &mut impl FnMut(&'t T) -> ControlFlow<B>) -> ControlFlow<B> {
        match segments.split_first() {
            None => {
                if let Some(value) = &node.here {
                    visit(value)?;
                }
            }
            Some((segment, left)) => {
                if let Some(child) = node.literals.get(*segment) {
                    self.walk_from(child, left, visit)?;
                }
                for (_, _, child) in node.params.iter().filter(|(prefix, suffix, _)| fits(segment, prefix, suffix)) {
                    self.walk_from(child, left, visit)?;
                }
            }
        }
        match &node.rest {
            Some(value) if !segments.is_empty() || self.rest_matches_nothing => visit(value),
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for (text, expect) in [
            ("/", None),
            ("/a/b", None),
            ("/a/", None),
            ("/a/{id}", None),
            ("/a/{id}/b", None),
            ("/v1/{model}:run", None),
            ("/a.{ext}", None),
            ("/{*rest}", None),
            ("/a/{*rest}", None),
            ("", Some(PatternError::NotAbsolute)),
            ("a", Some(PatternError::NotAbsolute)),
            ("/{", Some(PatternError::Braces)),
            ("/}", Some(PatternError::Braces)),
            ("/{a", Some(PatternError::Braces)),
            ("/{{a}}", Some(PatternError::Braces)),
            ("/{a}{b}", Some(PatternError::TwoParameters)),
            ("/{}", Some(PatternError::Name)),
            ("/{a-b}", Some(PatternError::Name)),
            ("/{*}", Some(PatternError::Name)),
            ("/{*a}/b", Some(PatternError::RestNotLast)),
            ("/x{*a}", Some(PatternError::RestNotLast)),
        ] {
            assert_eq!(Pattern::parse(text).err(), expect, "{text}");
        }
        for text in ["//", "/a//b", "/./a", "/a/..", "/%61", "/%2e", "/a%3ab", "/a b", "/é", "/a?b", "/a%00"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::NotNormal(_))), "{text}");
        }
    }

    #[test]
    fn a_walk_shows_every_match_most_specific_first() {
        let patterns =
            ["/", "/{*all}", "/a", "/a/", "/a/{x}", "/a/x{x}", "/a/{x}:run", "/a/xy{x}", "/a/{*rest}", "/{p}/b", "/a/b", "/a/{x}/c"];
        let mut tree = PatternTree::<Option<&str>>::new(false);
        for text in patterns {
            *tree.entry(&Pattern::parse(text).unwrap()) = Some(text);
        }
        for (path, expect) in [
            ("/", &["/", "/{*all}"][..]),
            ("/a", &["/a", "/{*all}"]),
            ("/a/", &["/a/", "/a/{*rest}", "/{*all}"]),
            ("/a/b", &["/a/b", "/a/{x}", "/a/{*rest}", "/{p}/b", "/{*all}"]),
            ("/a/xyz", &["/a/xy{x}", "/a/x{x}", "/a/{x}", "/a/{*rest}", "/{*all}"]),
            ("/a/xy", &["/a/x{x}", "/a/{x}", "/a/{*rest}", "/{*all}"]),
            ("/a/x:run", &["/a/x{x}", "/a/{x}:run", "/a/{x}", "/a/{*rest}", "/{*all}"]),
            ("/a/:run", &["/a/{x}", "/a/{*rest}", "/{*all}"]),
            ("/a/b/c", &["/a/{x}/c", "/a/{*rest}", "/{*all}"]),
            ("/z/b", &["/{p}/b", "/{*all}"]),
            ("/z", &["/{*all}"]),
        ] {
            let mut seen = Vec::new();
            let segments: Vec<&str> = path[1..].split('/').collect();
            let _: ControlFlow<()> = tree.walk(&segments, &mut |value| {
                seen.extend(*value);
                ControlFlow::Continue(())
            });
            assert_eq!(seen, expect, "{path}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_always_matches() {
        for (a, b, expect) in [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/{x}", "/a", true),
            ("/a", "/{x}", false),
            ("/{x}", "/a/b", false),
            ("/{*x}", "/a/b", true),
            ("/{*x}", "/", true),
            ("/{*x}", "/a/{*y}", true),
            ("/a/{*x}", "/{*y}", false),
            ("/a/{*x}", "/a", false),
            ("/{x}", "/{*y}", false),
            ("/{x}", "/{x}:run", true),
            ("/{x}:run", "/{x}", false),
            ("/{x}:run", "/:run", false),
        ] {
            let parse = |text| Pattern::parse(text).unwrap();
            assert_eq!(parse(a).covers(&parse(b)), expect, "{a} {b}");
        }
    }
}
