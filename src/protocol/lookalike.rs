//! What a careless server might take a path for.
//!
//! An upstream may ignore letter case, a trailing slash, `;parameters`, one more round of percent
//! escapes, or blanks and dots at the end of a name. Two paths with the same key may be one resource
//! there, so a request that reaches a priced path only under its key must not pass for something else.
//! The key is compared, never forwarded. Called by `route`.

use super::{
    inputs::folded,
    path::hex_pair,
    pattern::{Part, Pattern},
};

/// The segments of a path as the most forgiving server would read them.
pub fn key(path: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for segment in plain(path).split(['/', '\\']) {
        match cut(segment) {
            ".." => drop(kept.pop()),
            segment => match segment.trim_end_matches(['.', ' ']) {
                "" => {}
                name => kept.push(folded(name)),
            },
        }
    }
    kept
}

/// The pattern that matches the keys of what `pattern` matches.
pub fn pattern_key(pattern: &Pattern) -> Pattern {
    let keyed = |part: &Part| match part {
        Part::Literal(text) => key(text).into_iter().map(Part::Literal).collect(),
        // A prefix that reaches into `;parameters` leaves nothing variable.
        Part::Param { prefix, .. } if prefix.contains(';') => key(prefix).into_iter().map(Part::Literal).collect(),
        Part::Param { prefix, suffix } => {
            vec![Part::Param { prefix: folded(&plain(prefix)), suffix: folded(cut(&plain(suffix)).trim_end_matches(['.', ' '])) }]
        }
        Part::Rest => vec![Part::Rest],
    };
    Pattern { parts: pattern.parts.iter().flat_map(keyed).collect() }
}

/// Without `;parameters`.
fn cut(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

/// Percent-decoded until nothing is left to decode; control characters dropped.
fn plain(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    loop {
        let once = decode_once(&bytes);
        // Each round with an escape in it is shorter, so this ends.
        if once.len() == bytes.len() {
            break;
        }
        bytes = once;
    }
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

fn decode_once(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match hex_pair(bytes.get(at + 1), bytes.get(at + 2)).filter(|_| byte == b'%') {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_forgiving_server_takes_for_one_path_has_one_key() {
        for path in [
            "/v1/x:run",
            "/V1/X:Run",
            "/v1/x:run/",
            "/v1/x%3Arun",
            "/v1/x%253arun",
            "/v1;a=b/x:run;c",
            "/v1/y/..;/x:run",
            "/v1/y/%252e%252e/x:run",
            "/v1%2Fx:run",
            "/v1%255Cx:run",
            "/v1/x:run.",
            "/v1/x:run%20",
            "/v1/x:run%250a",
            "/v1/;/x:run",
        ] {
            assert_eq!(key(path), ["v1", "x:run"], "{path}");
        }
        assert_eq!(key("/"), Vec::<String>::new());
        assert_ne!(key("/v1/xrun"), key("/v1/x:run"));
        assert_ne!(key("/v1/x/run"), key("/v1/x:run"));
        assert_eq!(key("/%E2%84%AA"), ["k"], "the Kelvin sign folds to k");
    }

    #[test]
    fn a_pattern_key_matches_the_keys_of_its_paths() {
        for (pattern, expect) in [
            ("/V1/{Id}", "/v1/{id}"),
            ("/V1/{id}:RUN", "/v1/{id}:run"),
            ("/a/", "/a"),
            ("/a;v/{x}", "/a/{x}"),
            ("/a/{x};v", "/a/{x}"),
            ("/a/p;{x}", "/a/p"),
            ("/a%3Ab/{*r}", "/a:b/{*r}"),
        ] {
            let parse = |text| Pattern::parse(text).unwrap();
            assert_eq!(pattern_key(&parse(pattern)), parse(expect), "{pattern}");
        }
    }
}
