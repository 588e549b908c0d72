//! Log lines: for people or as JSON, on standard error.
//!
//! Promises: other crates speak from `warn` on unless asked, and never below `info` whoever asks, for
//! at `debug` and `trace` HTTP libraries print headers, and headers are money here. Called once by
//! `runtime` and by the commands.

use std::io;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterFn, ParseError, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Overrides the configured level.
pub const VARIABLE: &str = "KAS402_LOG";

/// The crates of this workspace; a level without a name is theirs.
const OURS: [&str; 2] = ["kas402", "kas402_devnet"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One readable line per event, coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{origin}: not a log level or filter: {text:?} ({error})")]
    Filter { origin: &'static str, text: String, error: ParseError },
    #[error("logging was started already")]
    Started,
}

/// Starts logging for the process. `level` is `error`, `warn`, `info`, `debug`, `trace` or `off`, or a
/// filter such as `info,kas402::chain=debug`.
pub fn init(format: Format, level: &str) -> Result<(), LogError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => filter(VARIABLE, &text)?,
        _ => filter("log.level", level)?,
    };
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    subscriber(format, filter, colour, io::stderr).try_init().map_err(|_| LogError::Started)
}

fn filter(origin: &'static str, text: &str) -> Result<EnvFilter, LogError> {
    let mut directives = vec!["warn".to_owned()];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if is_level(part) {
            directives.extend(OURS.map(|ours| format!("{ours}={part}")));
        } else {
            directives.push(part.to_owned());
        }
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| LogError::Filter { origin, text: text.to_owned(), error })
}

fn is_level(text: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| text.eq_ignore_ascii_case(level))
}

/// Lets others say what happened, never what passed through them.
fn without_headers() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|event| {
        let of = event.target().split("::").next().unwrap_or_default();
        *event.level() <= Level::INFO || OURS.contains(&of)
    })
}

fn subscriber<W>(format: Format, filter: EnvFilter, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Human => Box::new(lines.with_target(false).compact()),
        Format::Json => Box::new(lines.json().flatten_event(true)),
    };
    // Filters of the whole subscriber, not of one layer: only so do they also hold for the `log` crate's records.
    tracing_subscriber::registry().with(lines).with(filter).with(without_headers())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, text: &str, log: impl FnOnce()) -> String {
        let buffer = Written::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, filter("test", text).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_level_is_ours_and_others_stay_quiet_and_never_speak_below_info() {
        for (text, expect) in [
            ("info", "our info, our error, their warn"),
            ("debug", "our info, our debug, our error, their warn"),
            ("OFF", "their warn"),
            ("error,h2=info", "our error, their info, their warn"),
            ("trace,h2=trace", "our info, our debug, our error, their info, their warn"),
            ("kas402::chain=debug", "our debug, our error, their warn"),
            ("", "our error, their warn"),
        ] {
            let lines = written(Format::Human, text, || {
                tracing::info!(target: "kas402::gateway", "our info");
                tracing::debug!(target: "kas402::chain", "our debug");
                tracing::error!(target: "kas402", "our error");
                tracing::info!(target: "h2", "their info");
                tracing::debug!(target: "h2::codec", "their headers");
                tracing::warn!(target: "h2", "their warn");
            });
            for word in ["our info", "our debug", "our error", "their info", "their warn", "their headers"] {
                assert_eq!(lines.contains(word), expect.contains(word), "{word:?} at {text:?}");
            }
        }
    }

    #[test]
    fn json_is_one_object_per_line_with_the_fields_at_its_top() {
        let lines = written(Format::Json, "info", || tracing::info!(target: "kas402", status = 200, "paid request"));
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(
            (line["message"].as_str(), line["status"].as_u64(), line["level"].as_str()),
            (Some("paid request"), Some(200), Some("INFO"))
        );
    }

    #[test]
    fn people_get_one_line_without_colour_in_a_file() {
        let line = written(Format::Human, "info", || tracing::info!(target: "kas402", status = 200, "paid request"));
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("INFO paid request status=200") && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn a_filter_that_does_not_parse_names_where_it_came_from() {
        let error = filter(VARIABLE, "kas402=loud").unwrap_err().to_string();
        assert!(error.contains("KAS402_LOG") && error.contains("kas402=loud"), "{error}");
    }
}
