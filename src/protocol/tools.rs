//! Which tools of an MCP server are sold (PROTOCOL section 8).
//!
//! Promises: a name is free only when no server could take it for a tool that is sold: a name with blanks, control
//! characters, escapes or letters beyond ASCII is unclear unless the operator wrote it out, and so is one that differs from a
//! sold name in letter case, or in dots and slashes at its end, alone. Never reads a message, never decides a price. Called by `gateway`; made by `config`.

use super::policy::Route;
use std::sync::Arc;

/// The tools of one route.
#[derive(Debug)]
pub struct Tools {
    rules: Vec<ToolRule>,
    /// Longest message of a client, bytes; beyond it 413.
    pub body_limit: usize,
    /// Longest message of the server that is held: a result that is sold, or an event that has to be looked at.
    pub message_limit: usize,
    pub shown: PricesShown,
}

/// Where `tools/list` names prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PricesShown {
    /// In the `_meta` of each tool.
    Meta,
    /// There, and as a sentence at the end of the description, which models read.
    Description,
    Nowhere,
}

/// What holds for the tools of one name or pattern.
#[derive(Debug)]
pub struct ToolRule {
    pub name: ToolName,
    /// The route by which it is sold, of its own id and prices; `None` when it is free.
    pub sold: Option<Arc<Route>>,
    /// Charge for results with `isError` as for others.
    pub charge_errors: bool,
}

/// One name, or a pattern with `*` for any characters, none among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolName {
    Exact(String),
    Pattern(String),
}

impl ToolName {
    /// `None` for what names no tool: nothing, or control characters.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        Some(if text.contains('*') { Self::Pattern(text.to_owned()) } else { Self::Exact(text.to_owned()) })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Pattern(text) => text,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => text == name,
            Self::Pattern(pattern) => matches(pattern.as_bytes(), name.as_bytes()),
        }
    }

    /// Whether a server that ignores letter case, or what is at the end of a path, would take `name` for one of these.
    fn resembles(&self, name: &str) -> bool {
        let (own, name) = (self.as_str().to_ascii_lowercase(), name.to_ascii_lowercase());
        let end = |text: &str| text.trim_end_matches(['.', '/']).to_owned();
        matches(own.as_bytes(), name.as_bytes()) || matches(end(&own).as_bytes(), end(&name).as_bytes())
    }

    /// Exact names first, then the pattern with more text of its own.
    fn rank(&self) -> (bool, usize) {
        match self {
            Self::Exact(_) => (true, 0),
            Self::Pattern(pattern) => (false, pattern.bytes().filter(|byte| *byte != b'*').count()),
        }
    }
}

/// Whether `pattern`, in which `*` stands for any bytes, is all of `text`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it takes one byte more.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), again) {
            (Some(b'*'), _) => {
                again = Some((p + 1, t));
                p += 1;
            }
            (Some(byte), _) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            (_, Some((after, from))) => {
                again = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What a name is.
#[derive(Clone, Copy, Debug)]
pub enum Tool<'t> {
    Sold(&'t ToolRule, &'t Arc<Route>),
    Free,
    /// A server could take it for a tool that is sold: neither forwarded for free nor sold.
    Unclear,
}

impl Tools {
    pub fn new(mut rules: Vec<ToolRule>, body_limit: usize, message_limit: usize, shown: PricesShown) -> Self {
        // Stable: of equal patterns the first counts.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.name.rank()));
        Self { rules, body_limit, message_limit, shown }
    }

    pub fn rules(&self) -> &[ToolRule] {
        &self.rules
    }

    /// Every route by which something is sold.
    pub fn sold(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.rules.iter().filter_map(|rule| rule.sold.as_ref())
    }

    pub fn find(&self, name: &str) -> Tool<'_> {
        let written = self.rules.iter().find(|rule| matches!(&rule.name, ToolName::Exact(exact) if exact == name));
        if written.is_none() && !plain(name) {
            return Tool::Unclear;
        }
        match written.or_else(|| self.rules.iter().find(|rule| rule.name.matches(name))) {
            Some(ToolRule { name: ToolName::Exact(_), sold: None, .. }) => Tool::Free,
            Some(rule @ ToolRule { sold: Some(sold), .. }) => Tool::Sold(rule, sold),
            // Free by a pattern, or by none: not what a sold name that counts before it could be taken for.
            free => {
                let rank = free.map(|rule| rule.name.rank());
                let before = |rule: &&ToolRule| rank.is_none_or(|rank| rule.name.rank() >= rank);
                let resembled = self.rules.iter().filter(before).any(|rule| rule.sold.is_some() && rule.name.resembles(name));
                if resembled { Tool::Unclear } else { Tool::Free }
            }
        }
    }
}

/// Visible ASCII without `%`: what every server compares alike, but for letter case.
fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::policy::{Access, PublicOrigin, RouteId};
    use std::time::Duration;

    fn rule(name: &str, sold: bool) -> ToolRule {
        let route = Route {
            id: RouteId(name.to_owned()),
            origin: PublicOrigin("https://shop.example".into()),
            host: None,
            path: "/mcp".into(),
            methods: vec![],
            conditions: vec![],
            upstream: "api".into(),
            access: Access::Free,
            timeout: Duration::from_secs(1),
        };
        ToolRule { name: ToolName::parse(name).unwrap(), sold: sold.then(|| Arc::new(route)), charge_errors: true }
    }

    #[test]
    fn a_name_is_free_only_when_no_server_could_take_it_for_a_sold_one() {
        let rules = vec![
            rule("image_*", true),
            rule("search", true),
            rule("image_large_*", true),
            rule("image_preview", false),
            rule("SEARCH", false),
            rule("caf\u{e9}", true),
            rule("\u{e9}t\u{e9}", false),
        ];
        let tools = Tools::new(rules, 1, 1, PricesShown::Meta);
        for (name, expect) in [
            ("search", "search"),
            ("SEARCH", "free"),
            ("Search", "unclear"),
            ("searching", "free"),
            ("research", "free"),
            ("image_small", "image_*"),
            ("image_", "image_*"),
            ("image_large_x", "image_large_*"),
            ("image_large_", "image_large_*"),
            ("image_preview", "free"),
            ("image_Preview", "image_*"),
            ("Image_small", "unclear"),
            ("IMAGE_PREVIEW", "unclear"),
            ("image", "free"),
            ("imagery", "free"),
            ("server:tool/x.y-z", "free"),
            ("search.", "unclear"),
            ("Search./.", "unclear"),
            ("search.x", "free"),
            ("other.", "free"),
            ("image_.", "image_*"),
            (" search", "unclear"),
            ("search ", "unclear"),
            ("search\u{0}", "unclear"),
            ("search\n", "unclear"),
            ("\u{ff53}earch", "unclear"),
            ("\u{17f}earch", "unclear"),
            ("search\u{200b}", "unclear"),
            ("%73earch", "unclear"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("cafe\u{301}", "unclear"),
            ("\u{e9}t\u{e9}", "free"),
            ("\u{fc}", "unclear"),
            ("", "unclear"),
        ] {
            let got = match tools.find(name) {
                Tool::Sold(rule, _) => rule.name.as_str(),
                Tool::Free => "free",
                Tool::Unclear => "unclear",
            };
            assert_eq!(got, expect, "{name:?}");
        }
    }

    #[test]
    fn a_free_pattern_frees_nothing_that_could_be_taken_for_a_sold_tool() {
        let rules = vec![rule("*", false), rule("sea*", false), rule("search", true), rule("image_*", true), rule("*_sold", true)];
        let tools = Tools::new(rules, 1, 1, PricesShown::Meta);
        for name in [
            "Search",
            "SEARCH",
            "search.",
            "search..",
            "search/",
            "search ",
            " search",
            "search\t",
            "search\u{a0}",
            "search\u{200b}",
            "\u{17f}earch",
            "\u{ff53}earch",
            "\u{455}earch",
            "s\u{e9}arch",
            "%73earch",
            "search%20",
            "search%00",
            "search\u{0}",
            "Image_x",
            "IMAGE_",
            "image\u{ff3f}x",
            "%69mage_x",
            "x_Sold",
            "x_sold.",
            "X_SOLD/",
        ] {
            assert!(matches!(tools.find(name), Tool::Unclear), "{name:?}: {:?}", tools.find(name));
        }
        for (name, free) in [("search", false), ("image_x", false), ("x_sold", false), ("seal", true), ("other", true), ("search.x", true)]
        {
            assert_eq!(matches!(tools.find(name), Tool::Free), free, "{name}: {:?}", tools.find(name));
            assert!(!matches!(tools.find(name), Tool::Unclear), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expect) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbx", false),
            ("a**c", "abc", true),
            ("*ab", "aab", true),
            ("ab", "ab", true),
            ("ab", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn a_name_without_characters_or_with_control_characters_is_none() {
        for text in ["", "a\u{0}", "a\nb", "\u{7f}"] {
            assert_eq!(ToolName::parse(text), None, "{text:?}");
        }
    }
}
