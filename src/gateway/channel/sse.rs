//! Event streams (`text/event-stream`): reading the data of each event as it passes, and closing a stream with one of our own.
//!
//! Promises: the same events however the bytes are cut into chunks, memory within [`METER_JSON_BYTES`], any bytes survived. Never
//! holds back or changes what it reads. Called by the meter and by what delivers streams.

use crate::{
    protocol::{inputs, limits::METER_JSON_BYTES},
    wire::headers::PAYMENT_RESPONSE,
};
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Whether these are the headers of an event stream, which flows as it arrives.
pub(in crate::gateway) fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |kind: &[u8]| kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    headers.get(CONTENT_TYPE).is_some_and(|kind| essence(kind.as_bytes()) == b"text/event-stream")
}

/// Whether [`final_event`] can be put at the end of a response with these headers: it is an event stream as it stands. Whoever does
/// drops its `Content-Length`.
pub(in crate::gateway) fn takes_final_event(headers: &HeaderMap) -> bool {
    is_event_stream(headers) && inputs::plainly_coded(headers)
}

/// The event that closes a complete stream with its receipt. `last_bytes`: the last that were sent, of the last chunk at least;
/// empty when there were none. An event they leave unfinished is ended first, as its sender should have done.
pub(in crate::gateway) fn final_event(receipt_json: &str, last_bytes: &[u8]) -> Bytes {
    let mut event = String::with_capacity(receipt_json.len() + 64);
    if !between_events(last_bytes) {
        // Two: after a carriage return the first only completes its line.
        event.push_str("\n\n");
    }
    event.push_str("event: ");
    event.push_str(PAYMENT_RESPONSE.as_str());
    // A line break in JSON stands between its tokens, and may as well stand between two data lines.
    for line in receipt_json.split(['\r', '\n']) {
        event.push_str("\ndata: ");
        event.push_str(line);
    }
    event.push_str("\n\n");
    event.into()
}

/// Whether these bytes surely end with a blank line, or nothing was sent.
fn between_events(last_bytes: &[u8]) -> bool {
    let ended_line = |bytes: &'_ [u8]| -> Option<usize> {
        let line = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).or_else(|| bytes.strip_suffix(b"\r"))?;
        Some(line.len())
    };
    last_bytes.is_empty() || ended_line(last_bytes).is_some_and(|length| ended_line(&last_bytes[..length]).is_some())
}

/// The events of a stream. One whose data is longer than [`METER_JSON_BYTES`] is skipped.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line that is not over yet; cut off when it is `overlong`.
    line: Vec<u8>,
    overlong: bool,
    /// The event that is not over yet: its data lines, each with a line feed after it.
    data: Vec<u8>,
    skip: bool,
    /// The first line may begin with a byte order mark.
    begun: bool,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Events {
    /// Takes the next bytes of the stream; `event` gets the data of every event that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], event: &mut impl FnMut(&[u8])) {
        if let Some(first) = bytes.first()
            && std::mem::take(&mut self.after_return)
            && *first == b'\n'
        {
            bytes = &bytes[1..];
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (part, rest) = bytes.split_at(end);
            self.hold(part);
            self.end_of_line(event);
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_return = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.hold(bytes);
    }

    /// The stream is complete: an event without the blank line after it counts too, because its sender has said it all.
    pub fn end(mut self, event: &mut impl FnMut(&[u8])) {
        self.end_of_line(event);
        self.end_of_event(event);
    }

    fn hold(&mut self, part: &[u8]) {
        let room = (METER_JSON_BYTES + BOM.len() + b"data: ".len()).saturating_sub(self.line.len());
        self.overlong |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_of_line(&mut self, event: &mut impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.line);
        let overlong = std::mem::take(&mut self.overlong);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { held.strip_prefix(BOM).unwrap_or(&held) } else { &held };
        if line.is_empty() {
            self.end_of_event(event);
        } else if let Some(data) = data_of(line) {
            self.skip |= overlong || self.data.len() + data.len() > METER_JSON_BYTES;
            if !self.skip {
                self.data.extend_from_slice(data);
                self.data.push(b'\n');
            }
        }
        // The next line is held in the same memory.
        self.line = held;
        self.line.clear();
    }

    fn end_of_event(&mut self, event: &mut impl FnMut(&[u8])) {
        if let Some(data) = self.data.strip_suffix(b"\n")
            && !self.skip
        {
            event(data);
        }
        self.data.clear();
        self.skip = false;
    }
}

/// The value of a data line; `None` for comments and other fields.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The data of every event, the stream given in these pieces.
    fn events<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut keep = |data: &[u8]| found.push(data.to_vec());
        let mut reader = Events::default();
        for chunk in chunks {
            reader.feed(chunk, &mut keep);
        }
        reader.end(&mut keep);
        found
    }

    #[test]
    fn an_event_is_its_data_lines_joined() {
        for (stream, expect) in [
            ("", &[][..]),
            ("\n\n\n", &[]),
            ("data: a\n\n", &["a"]),
            ("data:a\n\n", &["a"]),
            ("data:  a \n\n", &[" a "]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data: a\r\ndata: b\r\n\r\n", &["a\nb"]),
            ("data: a\rdata: b\r\r", &["a\nb"]),
            ("data: a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\n\n\n\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\n\r\ndata: b\n\r", &["a", "b"]),
            ("data\n\n", &[""]),
            ("data\ndata\n\n", &["\n"]),
            ("data:\n\n", &[""]),
            (": comment\ndata: a\n: data: b\n\n", &["a"]),
            ("event: usage\nid: 7\nretry: 5\ndata: a\n\n", &["a"]),
            ("event: usage\n\n", &[]),
            ("dat: a\ndataa: b\nDATA: c\n data: d\ndata : e\n\n", &[]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("\u{feff}\u{feff}data: a\n\n", &[]),
            ("\n\u{feff}data: a\n\n", &[]),
            ("data: a\n", &["a"]),
            ("data: a", &["a"]),
            ("data: a\n\ndata: b", &["a", "b"]),
        ] {
            let got = events([stream.as_bytes()]);
            let expect: Vec<Vec<u8>> = expect.iter().map(|data| data.as_bytes().to_vec()).collect();
            assert_eq!(got, expect, "{stream:?}");
            assert_eq!(events(stream.as_bytes().chunks(1)), expect, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn an_unfinished_event_is_not_told_before_the_end() {
        let mut found = Vec::new();
        let mut reader = Events::default();
        reader.feed(b"data: a\n\ndata: b\n", &mut |data| found.push(data.to_vec()));
        assert_eq!(found, [b"a"]);
    }

    #[test]
    fn an_event_over_the_limit_is_skipped_and_not_kept() {
        let long = |bytes: usize| "x".repeat(bytes);
        let limit = METER_JSON_BYTES;
        for (stream, expect) in [
            (format!("data: {}\n\ndata: b\n\n", long(limit)), vec![limit, 1]),
            (format!("\u{feff}data: {}\n\ndata: b\n\n", long(limit)), vec![limit, 1]),
            (format!("data: {}\n\ndata: b\n\n", long(limit + 1)), vec![1]),
            (format!("\u{feff}data: {}\n\ndata: b\n\n", long(limit + 1)), vec![1]),
            (format!("data:{}\n\ndata: b\n\n", long(limit + 1)), vec![1]),
            (format!("data: {}\ndata: a\n\ndata: b\n\n", long(10 * limit)), vec![1]),
            (format!("data: {0}\ndata: {0}\ndata: a\n\ndata: b\n\n", long(limit / 2)), vec![1]),
            (format!("data: {}\n\n", long(limit + 1)), vec![]),
            (format!("data: {}", long(limit + 1)), vec![]),
            (format!(": {0}\nevent: {0}\ndata: b\n\n", long(3 * limit)), vec![1]),
        ] {
            let lengths: Vec<usize> = events([stream.as_bytes()]).iter().map(Vec::len).collect();
            assert_eq!(lengths, expect, "{} bytes beginning {:?}", stream.len(), &stream[..9]);
        }
        let mut reader = Events::default();
        for _ in 0..64 {
            reader.feed(long(limit / 8).as_bytes(), &mut |_| {});
        }
        assert!(reader.line.len() <= limit + 16, "{} bytes held", reader.line.len());
        for _ in 0..64 {
            reader.feed(format!("\ndata:{}", long(limit / 8)).as_bytes(), &mut |_| {});
        }
        assert!(reader.line.len() + reader.data.len() <= 2 * limit + 16, "{} bytes held", reader.data.len());
    }

    #[test]
    fn the_final_event_never_glues_to_what_was_sent() {
        const EVENT: &str = "event: payment-response\ndata: {\"a\":1}\n\n";
        for (sent, between) in [
            ("", true),
            ("data: x\n\n", true),
            ("data: x\r\n\r\n", true),
            ("data: x\r\r", true),
            ("data: x\n\r", true),
            ("data: x\r\r\n", true),
            (": ping\n\n", true),
            ("data: x", false),
            ("data: x\n", false),
            ("data: x\r\n", false),
            ("data: x\r", false),
            ("event: x", false),
            ("event: x\n", false),
            ("\n", false),
            ("\r\n", false),
        ] {
            let event = final_event("{\"a\":1}", sent.as_bytes());
            let expect = if between { EVENT.to_owned() } else { format!("\n\n{EVENT}") };
            assert_eq!(event, expect, "after {sent:?}");
            let stream = [sent.as_bytes(), &event].concat();
            let lines = String::from_utf8(stream).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            let blocks: Vec<&str> = lines.trim_end().split("\n\n").collect();
            assert_eq!(blocks.last().map(|block| block.trim_start()), Some(EVENT.trim_end()), "after {sent:?}");
        }
        let event = final_event("{\n\"a\":\r\n1}", b"");
        assert_eq!(event, "event: payment-response\ndata: {\ndata: \"a\":\ndata: \ndata: 1}\n\n");
    }

    #[test]
    fn a_coded_stream_takes_no_final_event() {
        for (coding, expect) in [(None, true), (Some("identity"), true), (Some("gzip"), false)] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, "text/event-stream".parse().unwrap());
            if let Some(coding) = coding {
                headers.insert(http::header::CONTENT_ENCODING, coding.parse().unwrap());
            }
            assert_eq!(takes_final_event(&headers), expect, "{coding:?}");
        }
        assert!(!takes_final_event(&HeaderMap::new()));
    }

    #[test]
    fn event_streams_are_known_by_their_media_type() {
        for (kind, expect) in [
            (Some("text/event-stream"), true),
            (Some("Text/Event-Stream; charset=utf-8"), true),
            (Some(" text/event-stream ;x"), true),
            (Some("text/event-streams"), false),
            (Some("application/json"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            }
            assert_eq!(is_event_stream(&headers), expect, "{kind:?}");
        }
    }

    /// The same rules over the whole text at once, for texts.
    fn model(stream: &str) -> Vec<Vec<u8>> {
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        lines
            .split('\n')
            .collect::<Vec<_>>()
            .split(|line| line.is_empty())
            .map(|event| {
                let fields = event.iter().map(|line| line.split_once(':').unwrap_or((line, "")));
                fields.filter(|(name, _)| *name == "data").map(|(_, value)| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
            })
            .filter(|data| !data.is_empty())
            .map(|data| data.join("\n").into_bytes())
            .collect()
    }

    /// Pieces of bytes, cut at any places.
    fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        places.sort_unstable();
        places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn a_stream_means_the_same_however_it_is_cut(
            pieces in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n", "data", "data:", "data: ", ":", " ", "x", "{}", "event: a", "\u{feff}"]), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream = pieces.concat();
            prop_assert_eq!(events(cut(stream.as_bytes(), &cuts)), model(&stream));
        }

        #[test]
        fn the_final_event_is_one_more_event(
            pieces in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n", "data: ", "x", "event: a", ": c"]), 0..12),
            known in 1_usize..8,
        ) {
            let stream = pieces.concat();
            let event = final_event("{}", &stream.as_bytes()[stream.len().saturating_sub(known)..]);
            let mut expect = events([stream.as_bytes()]);
            expect.push(b"{}".to_vec());
            prop_assert_eq!(events([stream.as_bytes(), &event]), expect);
        }

        #[test]
        fn any_bytes_mean_the_same_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':')], 0..64),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            prop_assert_eq!(events(cut(&bytes, &cuts)), events([&bytes[..]]));
        }
    }
}
