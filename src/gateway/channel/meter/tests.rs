use super::*;
use crate::protocol::charge::{OnUnknown, UnitPrice};
use proptest::prelude::*;

const CEILING: u64 = 1_000;
const FLOOR: u64 = 5;

fn sompi(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

/// 2 sompi a unit, from [`FLOOR`].
fn metered(source: MeterSource, on_unknown: OnUnknown) -> ChargeRule {
    ChargeRule::Metered(Meter { source, price: UnitPrice { price: sompi(2), units: 1 }, floor: sompi(FLOOR), on_unknown })
}

fn header() -> MeterSource {
    MeterSource::Header("x-tokens".parse().unwrap())
}

fn json() -> MeterSource {
    MeterSource::Json("/usage/total".into())
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn read(rule: &ChargeRule, headers: &HeaderMap, chunks: &[&[u8]], ending: Ending) -> Charged {
    let mut reader = MeterReader::new(rule, sompi(CEILING), headers);
    chunks.iter().for_each(|chunk| reader.chunk(chunk));
    reader.finish(ending)
}

/// What a complete response costs, held or streamed, under each rule for the unknown; `None` where the meter is not readable.
fn check(source: &MeterSource, headers: &[(&str, &str)], body: &[u8], expect: Option<u64>) {
    let headers = map(headers);
    for (on_unknown, unknown) in [
        (OnUnknown::Ceiling, Charged::Amount(sompi(CEILING))),
        (OnUnknown::Floor, Charged::Amount(sompi(FLOOR))),
        (OnUnknown::Refuse, Charged::Refused),
    ] {
        let rule = metered(source.clone(), on_unknown);
        let expect = expect.map_or(unknown, |expect| Charged::Amount(sompi(expect)));
        let what = format!("{rule}, {on_unknown:?}: {headers:?} {:?}", String::from_utf8_lossy(body));
        assert_eq!(MeterReader::whole(&rule, sompi(CEILING), &headers, body), expect, "held: {what}");
        for size in [1, 7, 4096] {
            let chunks: Vec<&[u8]> = body.chunks(size).collect();
            assert_eq!(read(&rule, &headers, &chunks, Ending::Complete), expect, "in pieces of {size}: {what}");
        }
    }
}

const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

#[test]
fn a_header_is_a_meter_when_it_is_there_once_and_a_number() {
    for (headers, expect) in [
        (&[("x-tokens", "120")][..], Some(240)),
        (&[("X-Tokens", " 12.25 ")], Some(25)),
        (&[("x-tokens", "0")], Some(FLOOR)),
        (&[("x-tokens", "100000")], Some(CEILING)),
        (&[("x-tokens", "120"), ("content-encoding", "gzip")], Some(240)),
        (&[], None),
        (&[("x-tokens", "")], None),
        (&[("x-tokens", "many")], None),
        (&[("x-tokens", "-1")], None),
        (&[("x-tokens", "120, 130")], None),
        (&[("x-tokens", "120"), ("x-tokens", "120")], None),
        (&[("x-tokens", "120"), ("x_tokens", "1")], None),
    ] {
        check(&header(), headers, b"{}", expect);
    }
}

#[test]
fn a_json_body_is_a_meter_when_it_is_plain_and_has_the_number() {
    let usage = r#"{"usage":{"total":120}}"#;
    for (headers, body, expect) in [
        (&[][..], usage, Some(240)),
        (&[("content-encoding", "identity")], usage, Some(240)),
        (&[], r#"{"usage":{"total":12.3}}"#, Some(25)),
        (&[], r#"{"usage":{"total":"120"}}"#, Some(240)),
        (&[], r#"{"usage":{"total":1e40}}"#, Some(CEILING)),
        (&[], r#"{"usage":{"total":0}}"#, Some(FLOOR)),
        (&[("content-encoding", "gzip")], usage, None),
        (&[("content-encoding", "identity, gzip")], usage, None),
        (&[("content-encoding", "identity"), ("content-encoding", "gzip")], usage, None),
        (&[], "", None),
        (&[], r#"{"usage":{}}"#, None),
        (&[], r#"{"usage":{"total":-120}}"#, None),
        (&[], r#"{"usage":{"total":120},"usage":{"total":1}}"#, None),
        (&[], r#"{"usage":{"total":120}"#, None),
        (&[], "data: {\"usage\":{\"total\":120}}\n\n", None),
        (&[EVENTS], usage, None),
    ] {
        check(&json(), headers, body.as_bytes(), expect);
    }
}

#[test]
fn an_event_stream_costs_what_its_last_event_with_usage_says() {
    let unfinished = "data: {\"usage\":{\"total\":100}}\n\ndata: {\"usage\":{\"total\":150}}";
    for (body, expect) in [
        ("data: {\"usage\":{\"total\":100}}\n\n", Some(200)),
        ("data: {\"usage\":{\"total\":100}}\n\ndata: {\"usage\":{\"total\":150}}\n\ndata: [DONE]\n\n", Some(300)),
        ("data: {\"usage\":{\"total\":150}}\n\ndata: {\"usage\":{\"total\":100}}\n\n", Some(200)),
        ("data: {\"usage\":{\"total\":100}}\n\ndata: {\"usage\":null}\n\ndata: {\"usage\":{\"total\":\"?\"}}\n\ndata: 7\n\n", Some(200)),
        ("data: {\"usage\":{\"total\":100}}\n\ndata: {\"usage\":{\"total\":-1}}\n\n", Some(200)),
        ("event: done\r\nid: 1\r\ndata: {\"usage\":\r\ndata: {\"total\":\r\ndata: 100}}\r\n\r\n", Some(200)),
        ("data: {\"usage\":{\"total\":0}}\n\n", Some(FLOOR)),
        ("data: {\"usage\":{\"total\":1e9}}\n\n", Some(CEILING)),
        (unfinished, Some(300)),
        (": {\"usage\":{\"total\":100}}\n\n", None),
        ("data: hello\n\ndata: [DONE]\n\n", None),
        ("", None),
    ] {
        check(&json(), &[EVENTS], body.as_bytes(), expect);
    }
    check(&json(), &[EVENTS, ("content-encoding", "br")], b"data: {\"usage\":{\"total\":100}}\n\n", None);
    let left = read(&metered(json(), OnUnknown::Floor), &map(&[EVENTS]), &[unfinished.as_bytes()], Ending::ClientLeft);
    assert_eq!(left, Charged::Amount(sompi(200)), "an event that is not over does not count when the client left");
}

#[test]
fn bytes_are_counted_as_sent() {
    for (headers, body, expect) in
        [(&[][..], "", FLOOR), (&[], "abc", 6), (&[("content-encoding", "gzip")], "0123456789", 20), (&[EVENTS], "data: x\n\n", 18)]
    {
        check(&MeterSource::Bytes, headers, body.as_bytes(), Some(expect));
    }
    check(&MeterSource::Bytes, &[], &[0; 100_000], Some(CEILING));
}

#[test]
fn a_fixed_charge_is_the_ceiling_of_whatever_was_served() {
    for (ending, expect) in [(Ending::Complete, CEILING), (Ending::ClientLeft, CEILING), (Ending::UpstreamBroke, 0)] {
        let got = read(&ChargeRule::Fixed, &HeaderMap::new(), &[b"abc"], ending);
        assert_eq!(got, Charged::Amount(sompi(expect)), "{ending:?}");
    }
    assert_eq!(MeterReader::whole(&ChargeRule::Fixed, sompi(CEILING), &HeaderMap::new(), b""), Charged::Amount(sompi(CEILING)));
    let mut reader = MeterReader::new(&ChargeRule::Fixed, sompi(CEILING), &HeaderMap::new());
    reader.chunk(b"abc");
    assert_eq!(reader.reading(), None, "only the end decides");
    assert_eq!((reader.unknown(), reader.unknown_in_stream()), (Charged::Amount(sompi(CEILING)), sompi(CEILING)));
}

/// A stream's reading before its end, then its charge for each ending: complete, left, broken.
#[test]
fn how_a_stream_ends_decides_what_it_costs() {
    let usage = b"data: {\"usage\":{\"total\":100}}\n\n";
    let number = &[("x-tokens", "100")][..];
    let (ceiling, floor) = (Some(CEILING), Some(FLOOR));
    let (nothing, counted) = (Some(0), Some(200));
    for (source, headers, body, on_unknown, reading, charges) in [
        (header(), number, &b"x"[..], OnUnknown::Ceiling, counted, [counted; 3]),
        (header(), number, b"", OnUnknown::Ceiling, counted, [counted; 3]),
        (header(), &[], b"x", OnUnknown::Ceiling, None, [ceiling, ceiling, nothing]),
        (header(), &[], b"x", OnUnknown::Floor, None, [floor, floor, nothing]),
        (header(), &[], b"x", OnUnknown::Refuse, None, [None, floor, nothing]),
        (json(), &[EVENTS], usage, OnUnknown::Refuse, counted, [counted; 3]),
        (json(), &[EVENTS], b"data: x\n\n", OnUnknown::Ceiling, None, [ceiling, ceiling, nothing]),
        (json(), &[EVENTS], b"data: x\n\n", OnUnknown::Floor, None, [floor, floor, nothing]),
        (json(), &[EVENTS], b"data: x\n\n", OnUnknown::Refuse, None, [None, floor, nothing]),
        (json(), &[], br#"{"usage":{"total":100}}"#, OnUnknown::Ceiling, None, [counted, ceiling, nothing]),
        (json(), &[], br#"{"usage":{"total":100}}"#, OnUnknown::Floor, None, [counted, floor, nothing]),
        (MeterSource::Bytes, &[], &[b'x'; 100], OnUnknown::Refuse, counted, [counted; 3]),
        (MeterSource::Bytes, &[], b"x", OnUnknown::Refuse, floor, [floor; 3]),
        (MeterSource::Bytes, &[], b"", OnUnknown::Ceiling, floor, [floor, floor, nothing]),
    ] {
        let rule = metered(source, on_unknown);
        let headers = map(headers);
        let what = format!("{rule}, {on_unknown:?}, {headers:?}");
        let mut reader = MeterReader::new(&rule, sompi(CEILING), &headers);
        reader.chunk(body);
        assert_eq!(reader.reading(), reading.map(sompi), "{what}");
        let endings = [Ending::Complete, Ending::ClientLeft, Ending::UpstreamBroke];
        for (ending, expect) in endings.into_iter().zip(charges) {
            let expect = expect.map_or(Charged::Refused, |expect| Charged::Amount(sompi(expect)));
            assert_eq!(read(&rule, &headers, &[body], ending), expect, "{ending:?}: {what}");
        }
    }
}

#[test]
fn a_refusal_that_comes_too_late_is_the_floor() {
    for (on_unknown, expect) in [(OnUnknown::Ceiling, CEILING), (OnUnknown::Floor, FLOOR), (OnUnknown::Refuse, FLOOR)] {
        let rule = metered(json(), on_unknown);
        let reader = MeterReader::new(&rule, sompi(CEILING), &map(&[EVENTS]));
        let unknown = reader.unknown_in_stream();
        assert_eq!(unknown, sompi(expect), "{on_unknown:?}");
        assert_eq!(reader.finish(Ending::Complete).amount_or(unknown), unknown, "{on_unknown:?}");
        let reader = MeterReader::new(&rule, sompi(FLOOR - 1), &map(&[EVENTS]));
        assert_eq!(reader.unknown_in_stream(), sompi(FLOOR - 1), "never above the ceiling");
    }
}

#[test]
fn a_json_body_is_read_to_the_limit_or_as_far_as_it_is_held() {
    let rule = metered(json(), OnUnknown::Refuse);
    let usage = r#"{"usage":{"total":100}}"#;
    let document = |length: usize| [" ".repeat(length - usage.len()).as_str(), usage].concat().into_bytes();
    for (length, streamed) in [
        (METER_JSON_BYTES, Charged::Amount(sompi(200))),
        (METER_JSON_BYTES + 1, Charged::Refused),
        (3 * METER_JSON_BYTES, Charged::Refused),
    ] {
        let body = document(length);
        let chunks: Vec<&[u8]> = body.chunks(60_000).collect();
        assert_eq!(read(&rule, &HeaderMap::new(), &chunks, Ending::Complete), streamed, "{length}");
        assert_eq!(MeterReader::whole(&rule, sompi(CEILING), &HeaderMap::new(), &body), Charged::Amount(sompi(200)), "{length}");
    }
}

fn rules() -> impl Strategy<Value = ChargeRule> {
    let source = prop::sample::select(vec![header(), json(), MeterSource::Json(String::new()), MeterSource::Bytes]);
    let on_unknown = prop::sample::select(vec![OnUnknown::Ceiling, OnUnknown::Floor, OnUnknown::Refuse]);
    prop_oneof![Just(ChargeRule::Fixed), (source, on_unknown).prop_map(|(source, on_unknown)| metered(source, on_unknown))]
}

/// Anything, and what looks like answers.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        ["data: ", "{\"usage\":{\"total\":", "12", "0.5", "}}", "\n", "\r\n", "\r", "null", "\u{feff}", "[DONE]", ": c\n", "data: 40\n\n"];
    let lookalike = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..24).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![prop::collection::vec(any::<u8>(), 0..64), lookalike]
}

proptest! {
    #[test]
    fn the_charge_is_the_same_however_the_body_is_cut_and_never_above_the_ceiling(
        rule in rules(),
        headers in prop::sample::subsequence(vec![EVENTS, ("content-encoding", "gzip"), ("x-tokens", "44")], 0..=3),
        body in bodies(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ending in prop::sample::select(vec![Ending::Complete, Ending::ClientLeft, Ending::UpstreamBroke]),
    ) {
        let headers = map(&headers);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        let charged = read(&rule, &headers, &chunks, ending);
        prop_assert_eq!(charged, read(&rule, &headers, &[&body], ending));
        if ending == Ending::Complete {
            prop_assert_eq!(charged, MeterReader::whole(&rule, sompi(CEILING), &headers, &body));
        } else {
            prop_assert_ne!(charged, Charged::Refused, "only a complete answer can be withheld");
        }
        prop_assert!(charged.amount_or(Amount::ZERO) <= sompi(CEILING));
    }
}
