//! Event streams as the gateway passes them on: one event at a time, each looked at before it goes.
//!
//! Promises: the events of a stream in their order, in the sender's own bytes, however they are cut into chunks; at most `limit`
//! bytes held. An event beyond that ends the reading: what was not looked at is not passed on.

use bytes::{Buf as _, Bytes, BytesMut};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event, or what stands between two: comments, or a blank line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// As it was sent, with the blank line after it.
    pub raw: Bytes,
    /// Its data lines, joined; empty when it has none.
    pub data: Vec<u8>,
    pub id: Option<String>,
    pub retry_millis: Option<u64>,
}

/// An event is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than it may be")]
pub struct TooLong;

/// Reads a stream.
#[derive(Debug)]
pub struct Events {
    held: BytesMut,
    limit: usize,
    /// Where the line begins that is not over.
    line: usize,
    /// The last byte ended a line and was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    begun: bool,
}

impl Events {
    pub fn new(limit: usize) -> Self {
        Self { held: BytesMut::new(), limit, line: 0, after_return: false, begun: false }
    }

    /// The next bytes; every event they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events: Vec<Event> = Vec::new();
        for byte in bytes {
            if std::mem::take(&mut self.after_return) && *byte == b'\n' {
                // Belongs to the line that is over, and is passed on with it: some readers wait for it.
                match events.last_mut() {
                    _ if !self.held.is_empty() => {
                        self.hold(b'\n')?;
                        self.line = self.held.len();
                    }
                    Some(event) => event.raw = [&event.raw[..], b"\n"].concat().into(),
                    None => events.push(Event { raw: Bytes::from_static(b"\n"), ..Event::default() }),
                }
                continue;
            }
            self.hold(*byte)?;
            if !matches!(byte, b'\n' | b'\r') {
                continue;
            }
            self.after_return = *byte == b'\r';
            if self.held.len() - self.line == 1 {
                events.push(self.take());
            } else {
                self.line = self.held.len();
            }
        }
        Ok(events)
    }

    /// Where the limit is crossed, whatever is left of the chunk: how a stream is cut must not matter.
    fn hold(&mut self, byte: u8) -> Result<(), TooLong> {
        if self.held.len() == self.limit {
            return Err(TooLong);
        }
        self.held.extend_from_slice(&[byte]);
        Ok(())
    }

    /// The message that a stream ended with, when no blank line came after it. Only of a stream that did not break off: the standard
    /// discards what is incomplete, and half a message is none.
    pub fn last(mut self) -> Option<Event> {
        self.held.extend_from_slice(b"\n\n");
        Some(self.take()).filter(|event| super::answer::is_json(&event.data))
    }

    fn take(&mut self) -> Event {
        self.line = 0;
        let raw = self.held.split().freeze();
        let mut text = raw.clone();
        if !std::mem::replace(&mut self.begun, true) && text.starts_with(BOM) {
            text.advance(BOM.len());
        }
        let mut event = Event { raw, ..Event::default() };
        let mut data: Option<Vec<u8>> = None;
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let (name, value) = line.iter().position(|byte| *byte == b':').map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"data" => match &mut data {
                    None => data = Some(value.to_vec()),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                },
                b"id" => event.id = std::str::from_utf8(value).ok().filter(|id| !id.contains('\0')).map(str::to_owned),
                b"retry" => event.retry_millis = std::str::from_utf8(value).ok().and_then(|millis| millis.parse().ok()),
                _ => {}
            }
        }
        event.data = data.unwrap_or_default();
        event
    }
}

/// The event with another message: every other line of it stays.
pub fn with_message(event: &Event, message: &[u8]) -> Bytes {
    let mut told = Vec::with_capacity(event.raw.len() + message.len());
    let mut data = Some(message);
    let mut rest = &event.raw[..];
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(rest.len(), |at| if rest[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 });
        let line;
        (line, rest) = rest.split_at(end);
        // Before the first line of a stream there may be a byte order mark.
        let begins = told.is_empty() && line.starts_with(BOM);
        let (mark, line) = if begins { line.split_at(BOM.len()) } else { (&[][..], line) };
        told.extend_from_slice(mark);
        let is_data = line.strip_prefix(b"data").is_some_and(|rest| matches!(rest.first(), Some(b':' | b'\n' | b'\r')));
        if !is_data {
            told.extend_from_slice(line);
        } else if let Some(message) = data.take() {
            lines(message, &mut told);
            told.push(b'\n');
        }
    }
    told.into()
}

/// A message as data lines, without the end of the last.
fn lines(message: &[u8], event: &mut Vec<u8>) {
    // A line break in JSON stands between its tokens, and may as well stand between two data lines.
    for (index, line) in message.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
        event.extend_from_slice(if index == 0 { b"data: " } else { b"\ndata: " });
        event.extend_from_slice(line);
    }
}

/// A message as an event, under the id of the event whose place it takes.
pub fn event(message: &[u8], id: Option<&str>) -> Bytes {
    let mut event = b"event: message".to_vec();
    if let Some(id) = id {
        event.extend_from_slice(b"\nid: ");
        event.extend_from_slice(id.as_bytes());
    }
    event.push(b'\n');
    lines(message, &mut event);
    event.extend_from_slice(b"\n\n");
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Told = (Vec<u8>, Option<String>, Option<u64>);

    /// The bytes of the stream, and its events that say something.
    fn told(events: Vec<Event>) -> (Vec<u8>, Vec<Told>) {
        let raw = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        let told = |event: Event| (event.data, event.id, event.retry_millis);
        (raw, events.into_iter().map(told).filter(|(data, id, retry)| !data.is_empty() || id.is_some() || retry.is_some()).collect())
    }

    fn all<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Event> {
        let mut reader = Events::new(1_024);
        let mut events: Vec<Event> = chunks.into_iter().flat_map(|chunk| reader.feed(chunk).unwrap()).collect();
        events.extend(reader.last());
        events
    }

    #[test]
    fn an_event_is_its_fields_up_to_a_blank_line() {
        let check = |stream: &str, expect: &[(&str, Option<&str>, Option<u64>)]| {
            let events = all([stream.as_bytes()]);
            let told: Vec<_> =
                events.iter().map(|event| (std::str::from_utf8(&event.data).unwrap(), event.id.as_deref(), event.retry_millis)).collect();
            assert_eq!(told, expect, "{stream:?}");
        };
        check("", &[]);
        check("data: a\n\n", &[("a", None, None)]);
        check("event: message\nid: 7\nretry: 50\ndata: a\ndata:b\n\n", &[("a\nb", Some("7"), Some(50))]);
        check("data: a\r\n\r\ndata: b\r\r", &[("a", None, None), ("b", None, None)]);
        check(": ping\n\ndata: a\n\n", &[("", None, None), ("a", None, None)]);
        check("id: 1\ndata:\n\n", &[("", Some("1"), None)]);
        check("\u{feff}data: a\n\n", &[("a", None, None)]);
        check("data: {}", &[("{}", None, None)]);
        check("id: 7\ndata: {\"half\":", &[]);
        check("data\n\n", &[("", None, None)]);
        check("retry: x\ndata: a\n\n", &[("a", None, None)]);
    }

    #[test]
    fn an_event_over_the_limit_ends_the_reading() {
        let mut reader = Events::new(16);
        assert_eq!(reader.feed(b"data: 12345678\n\n").map(|events| events.len()), Ok(1));
        assert_eq!(reader.feed(b"data: 123456789").map(|events| events.len()), Ok(0));
        assert_eq!(reader.feed(b"0").map(|events| events.len()), Ok(0), "as long as it may be");
        assert_eq!(reader.feed(b"1"), Err(TooLong));
        for (stream, expect) in [
            ("data: 12345678\n\n", Ok(1)),
            ("data: 1234567\r\n\r", Ok(1)),
            ("data: 123456789\n\n", Err(TooLong)),
            ("data: 123456789\r\n\r", Err(TooLong)),
            ("data: 1\n\ndata: 12345678\n\n", Ok(2)),
            ("data: 12345678\n\ndata: 123456789\n\n", Err(TooLong)),
        ] {
            let whole = Events::new(16).feed(stream.as_bytes()).map(|events| events.len());
            assert_eq!(whole, expect, "{stream:?}");
            let mut reader = Events::new(16);
            let cut = stream.bytes().try_fold(0, |sum, byte| Ok(sum + reader.feed(&[byte])?.len()));
            assert_eq!(cut, expect, "{stream:?}, byte by byte");
        }
    }

    #[test]
    fn a_line_end_of_two_bytes_goes_with_its_event_as_soon_as_it_is_there() {
        let raw = |events: Vec<Event>| events.into_iter().map(|event| event.raw).collect::<Vec<_>>();
        let mut reader = Events::new(64);
        assert_eq!(raw(reader.feed(b"data: a\r\n\r\ndata: b\r\n\r").unwrap()), ["data: a\r\n\r\n", "data: b\r\n\r"]);
        assert_eq!(raw(reader.feed(b"\n").unwrap()), ["\n"]);
        assert_eq!(raw(reader.feed(b"data: c\r").unwrap()), [""; 0]);
        assert_eq!(raw(reader.feed(b"\n\n").unwrap()), ["data: c\r\n\n"]);
    }

    #[test]
    fn a_message_is_one_event_whatever_its_breaks() {
        for (message, id) in [("{\"a\":1}", None), ("{\n\"a\":\r\n1}", Some("7"))] {
            let events = all([&event(message.as_bytes(), id)[..]]);
            assert_eq!(events.len(), 1);
            assert_eq!(events[0].id.as_deref(), id);
            let told: serde_json::Value = serde_json::from_slice(&events[0].data).unwrap();
            assert_eq!(told, serde_json::json!({"a": 1}));
        }
    }

    #[test]
    fn an_event_keeps_its_other_lines_under_another_message() {
        for (raw, message, expect) in [
            ("data: 1\n\n", "2", "data: 2\n\n"),
            ("\u{feff}: hi\nid:7\ndata:1\nretry: 5\n\n", "2", "\u{feff}: hi\nid:7\ndata: 2\nretry: 5\n\n"),
            ("\u{feff}data:1\n\n", "2", "\u{feff}data: 2\n\n"),
            ("event: x\r\ndata: {\r\ndata: }\r\nid: 1\r\n\r\n", "{\n\n}", "event: x\r\ndata: {\ndata: \ndata: }\nid: 1\r\n\r\n"),
            ("datax: 1\ndata\n\n", "2", "datax: 1\ndata: 2\n\n"),
            ("data: 1\rid: 7\r\r", "2", "data: 2\nid: 7\r\r"),
        ] {
            let event = all([raw.as_bytes()]).remove(0);
            let told = with_message(&event, message.as_bytes());
            assert_eq!(String::from_utf8_lossy(&told), expect, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_means_the_same_however_it_is_cut(
            pieces in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n", "data", "data: ", ":", "id: ", "x", "{}", "\u{feff}"]), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream = pieces.concat();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
            places.sort_unstable();
            let cut = all(places.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]));
            let (raw, events) = told(cut);
            prop_assert_eq!(&events, &told(all([stream.as_bytes()])).1);
            // A message at the end gets what is missing; half a one is left out.
            prop_assert!(raw.starts_with(stream.as_bytes()) || stream.as_bytes().starts_with(&raw), "{:?} of {:?}", String::from_utf8_lossy(&raw), stream);
        }
    }
}
