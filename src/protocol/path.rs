//! The one normal form of a path, used for matching and for forwarding (PROTOCOL section 3).
//!
//! Promises: two spellings that RFC 3986 calls equal become one; what two servers may read in two
//! ways is refused. Never touches the query. Called by `gateway` before the router sees a request.

use std::fmt;

/// A path in normal form: starts with `/`, only unreserved characters decoded, other escapes
/// upper case, no dot segments, no `//`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalPath(String);

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with /")]
    NotAbsolute,
    #[error("the path contains a character that must be escaped")]
    ForbiddenCharacter,
    #[error("a percent sign is not followed by two hex digits")]
    BadEscape,
    #[error("the path escapes a separator, a backslash or a control character")]
    EscapedSeparator,
    #[error("the path's bytes are not UTF-8")]
    NotUtf8,
}

impl NormalPath {
    /// `encoded_slashes` keeps `%2F` as it stands instead of refusing it (opt-in per host).
    pub fn parse(raw: &str, encoded_slashes: bool) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let decoded = decode_unreserved(raw, encoded_slashes)?;
        Ok(Self(remove_dot_segments(&decoded)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between slashes. Only the last one can be empty: `/a/` is `a` and an empty part.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986 section 2.3.
const fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The byte two hex digits name.
pub(super) fn hex_pair(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

fn decode_unreserved(raw: &str, encoded_slashes: bool) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    // The bytes behind every escape: overlong forms and lone continuation bytes show up here.
    let mut plain = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            if !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#' | b'?') {
                return Err(PathError::ForbiddenCharacter);
            }
            out.push(char::from(byte));
            plain.push(byte);
            at += 1;
            continue;
        }
        let value = hex_pair(bytes.get(at + 1), bytes.get(at + 2)).ok_or(PathError::BadEscape)?;
        match value {
            b'/' if encoded_slashes => out.push_str("%2F"),
            b'/' | b'\\' | 0x00..=0x1f | 0x7f => return Err(PathError::EscapedSeparator),
            value if unreserved(value) => out.push(char::from(value)),
            value => out.push_str(&format!("%{value:02X}")),
        }
        plain.push(value);
        at += 3;
    }
    std::str::from_utf8(&plain).map_err(|_| PathError::NotUtf8)?;
    Ok(out)
}

/// Removes `.` and `..` segments and empty ones. `..` above the root stays at the root.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if directory || kept.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str, expect: Result<&str, PathError>) {
        assert_eq!(NormalPath::parse(raw, false).as_ref().map(NormalPath::as_str), expect.as_ref().copied(), "{raw:?}");
    }

    #[test]
    fn equal_spellings_have_one_form() {
        for (raw, expect) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/%61%2D%2e%5F%7e", "/a-._~"),
            ("/a%3ab", "/a%3Ab"),
            ("/a:b", "/a:b"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("//", "/"),
            ("/./a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/../../etc", "/etc"),
            ("/..", "/"),
            ("/a//../b", "/b"),
            ("/...", "/..."),
            ("/a/..;/b", "/a/..;/b"),
            ("/a%252e%252e", "/a%252e%252e"),
            ("/a%20b", "/a%20b"),
            ("/A", "/A"),
            ("/a|b{c}", "/a|b{c}"),
        ] {
            check(raw, Ok(expect));
        }
    }

    #[test]
    fn what_two_servers_may_read_in_two_ways_is_refused() {
        for (raw, expect) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("http://x/a", PathError::NotAbsolute),
            ("/a%2Fb", PathError::EscapedSeparator),
            ("/a%2fb", PathError::EscapedSeparator),
            ("/a%5Cb", PathError::EscapedSeparator),
            ("/a%5cb", PathError::EscapedSeparator),
            ("/a%00", PathError::EscapedSeparator),
            ("/a%0d%0ab", PathError::EscapedSeparator),
            ("/a%7f", PathError::EscapedSeparator),
            ("/a\\b", PathError::ForbiddenCharacter),
            ("/a b", PathError::ForbiddenCharacter),
            ("/a#b", PathError::ForbiddenCharacter),
            ("/a?b", PathError::ForbiddenCharacter),
            ("/a\0", PathError::ForbiddenCharacter),
            ("/a\tb", PathError::ForbiddenCharacter),
            ("/é", PathError::ForbiddenCharacter),
            ("/%", PathError::BadEscape),
            ("/%2", PathError::BadEscape),
            ("/%zz", PathError::BadEscape),
            ("/%u002f", PathError::BadEscape),
            ("/%+1", PathError::BadEscape),
            ("/%c0%af", PathError::NotUtf8),
            ("/%c0%ae%c0%ae/", PathError::NotUtf8),
            ("/%e9", PathError::NotUtf8),
            ("/%80", PathError::NotUtf8),
            ("/%ed%a0%80", PathError::NotUtf8),
        ] {
            check(raw, Err(expect));
        }
    }

    #[test]
    fn encoded_slashes_pass_only_where_asked_for_and_are_never_separators() {
        let parse = |raw| NormalPath::parse(raw, true).map(|p| p.to_string());
        assert_eq!(parse("/a%2fb"), Ok("/a%2Fb".into()));
        assert_eq!(parse("/a/..%2fb"), Ok("/a/..%2Fb".into()));
        assert_eq!(parse("/a%5cb"), Err(PathError::EscapedSeparator));
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(raw in "/([a-cA-C.;:/%~]|%2[eEdD5fF]|%[46]1|%3[aA]|%C3%A9){0,12}", slashes: bool) {
            if let Ok(once) = NormalPath::parse(&raw, slashes) {
                prop_assert_eq!(NormalPath::parse(once.as_str(), slashes), Ok(once.clone()));
                prop_assert!(once.as_str().starts_with('/') && !once.as_str().contains("//"));
                prop_assert!(once.segments().all(|s| s != "." && s != ".."));
            }
        }

        #[test]
        fn any_text_is_normalised_or_refused(raw in ".{0,24}", slashes: bool) {
            if let Ok(once) = NormalPath::parse(&raw, slashes) {
                prop_assert_eq!(NormalPath::parse(once.as_str(), slashes), Ok(once.clone()));
            }
        }
    }
}
