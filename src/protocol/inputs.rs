//! Reading one named value of a request head, for conditions and price rules.
//!
//! Promises: a value is returned only when every common server would read the same one. A name that
//! occurs twice, or in another letter case, or behind a `;`, is [`Once::Ambiguous`], never a pick.

use super::path::hex_pair;
use http::{HeaderMap, HeaderName, header};
use std::borrow::Cow;

/// How often a value occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    Absent,
    One(T),
    /// More than once, or in a form that servers read differently.
    Ambiguous,
}

impl<T> Once<T> {
    fn add(self, value: Option<T>) -> Self {
        match (self, value) {
            (Self::Absent, Some(value)) => Self::One(value),
            _ => Self::Ambiguous,
        }
    }
}

/// Equal for a server that ignores letter case (Unicode included, as some JSON readers do).
pub fn folded(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

/// The one value of a header, trimmed; anything but visible ASCII and inner blanks is ambiguous.
/// `X_Model` counts as `X-Model`: servers behind CGI-like interfaces cannot tell them apart.
pub fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Once<&'h str> {
    let same = |other: &HeaderName| {
        let (a, b) = (name.as_str().bytes(), other.as_str().bytes());
        a.len() == b.len() && a.zip(b).all(|(a, b)| a == b || matches!((a, b), (b'-', b'_') | (b'_', b'-')))
    };
    headers.iter().filter(|(other, _)| same(other)).fold(Once::Absent, |found, (other, value)| {
        let text = value.to_str().ok().map(|text| text.trim_matches([' ', '\t'])).filter(|_| other == name);
        found.add(text)
    })
}

/// Whether the body that belongs to these headers is sent as it is: no content coding.
pub fn plainly_coded(headers: &HeaderMap) -> bool {
    match self::header(headers, &header::CONTENT_ENCODING) {
        Once::Absent => true,
        Once::One(coding) => coding.is_empty() || coding.eq_ignore_ascii_case("identity"),
        Once::Ambiguous => false,
    }
}

/// The one value of a query parameter: percent-decoded, `+` is a blank.
pub fn query<'q>(query: Option<&'q str>, name: &str) -> Once<Cow<'q, str>> {
    let wanted = folded(name);
    let is_wanted = |key: &str| decode(key).is_some_and(|key| folded(&key) == wanted);
    query.unwrap_or_default().split('&').fold(Once::Absent, |found, pair| {
        // Some servers separate at `;` too: a pair that holds one is only clear when it is not about us.
        if pair.contains(';') {
            let hit = pair.split(';').any(|part| is_wanted(part.split_once('=').map_or(part, |(key, _)| key)));
            return if hit { Once::Ambiguous } else { found };
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if pair.is_empty() || !is_wanted(key) {
            return found;
        }
        found.add(decode(value).filter(|_| decode(key).is_some_and(|key| key == name)))
    })
}

/// `None` for bad escapes and for bytes that are not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                out.push(hex_pair(bytes.get(at + 1), bytes.get(at + 2))?);
                at += 2;
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_is_taken_only_when_every_server_reads_it_alike() {
        let one = |text: &str| Once::One(text.to_owned());
        for (text, expect) in [
            (None, Once::Absent),
            (Some(""), Once::Absent),
            (Some("x=1"), Once::Absent),
            (Some("modelx=1&xmodel=2"), Once::Absent),
            (Some("model=a"), one("a")),
            (Some("x=1&model=a&y"), one("a")),
            (Some("&&model=a&"), one("a")),
            (Some("model"), one("")),
            (Some("model="), one("")),
            (Some("model=a=b"), one("a=b")),
            (Some("mod%65l=a%20b+c"), one("a b c")),
            (Some("model=%C3%A9"), one("é")),
            (Some("model=a&model=a"), Once::Ambiguous),
            (Some("model=a&mod%65l=b"), Once::Ambiguous),
            (Some("model=a&MODEL=b"), Once::Ambiguous),
            (Some("Model=a"), Once::Ambiguous),
            (Some("x=1;model=a"), Once::Ambiguous),
            (Some("model=a;x=1"), Once::Ambiguous),
            (Some("x=1;y=2&model=a"), one("a")),
            (Some("model=%zz"), Once::Ambiguous),
            (Some("model=%"), Once::Ambiguous),
            (Some("model=%ff"), Once::Ambiguous),
        ] {
            let got = match query(text, "model") {
                Once::One(value) => Once::One(value.into_owned()),
                Once::Absent => Once::Absent,
                Once::Ambiguous => Once::Ambiguous,
            };
            assert_eq!(got, expect, "{text:?}");
        }
    }

    #[test]
    fn a_header_value_is_taken_only_when_every_server_reads_it_alike() {
        let check = |lines: &[(&str, &[u8])], expect: Once<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name.parse::<HeaderName>().unwrap(), http::HeaderValue::from_bytes(value).unwrap());
            }
            assert_eq!(header(&headers, &HeaderName::from_static("x-model")), expect, "{lines:?}");
        };
        check(&[], Once::Absent);
        check(&[("x-other", b"a")], Once::Absent);
        check(&[("X-Model", b"a")], Once::One("a"));
        check(&[("x-model", b" \ta b\t")], Once::One("a b"));
        check(&[("x-model", b"")], Once::One(""));
        check(&[("x-model", b"a"), ("x-model", b"a")], Once::Ambiguous);
        check(&[("x-model", b"a"), ("x_model", b"b")], Once::Ambiguous);
        check(&[("x_model", b"b")], Once::Ambiguous);
        check(&[("x-model", "é".as_bytes())], Once::Ambiguous);
    }
}
