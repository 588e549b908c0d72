//! What the demo prints: aligned text, coloured only on a terminal. Knows nothing of what it shows.

use kas402::cli::paint::Paint;
use std::{
    cell::Cell,
    io::{IsTerminal, Write, stdout},
    path::Path,
    time::{Duration, Instant},
};

/// Columns of a label.
const LABEL: usize = 13;
/// Columns of a bar.
const BAR: u64 = 30;
/// Lines of a progress where nothing can be overwritten.
const LINES: u64 = 4;

/// Standard output. A reader that went away (`| head`) is no failure.
pub struct Screen {
    paint: Paint,
    /// A line was begun and not ended.
    open: Cell<bool>,
}

impl Screen {
    pub fn new() -> Self {
        Self { paint: Paint::stdout(), open: Cell::new(false) }
    }

    /// One line; an open one is ended first.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.open.replace(false) {
            put("\n");
        }
        put(&format!("{}\n", text.as_ref()));
    }

    pub fn title(&self, text: &str) {
        self.line(format!("\n{}", self.paint.bold(text)));
    }

    /// A numbered chapter of the story.
    pub fn step(&self, number: u32, text: &str) {
        self.title(&format!("{number}. {text}"));
    }

    /// What somebody else wrote, for example a file.
    pub fn quoted(&self, text: &str) {
        text.lines().for_each(|line| self.line(format!("     {} {line}", self.paint.dim("|"))));
    }

    pub fn note(&self, text: &str) {
        self.line(format!("   {}", self.paint.dim(text)));
    }

    /// Says what is being waited for; [`Screen::done`] ends the line.
    pub fn waiting(&self, label: &str) -> Instant {
        self.open.set(true);
        put(&format!("   {label:<LABEL$} "));
        Instant::now()
    }

    pub fn done(&self, since: Instant, text: &str) {
        let took = format!("{:>8}", seconds(since.elapsed()));
        self.open.set(false);
        put(&format!("{}   {text}\n", self.paint.green(&took)));
    }

    /// How far something got, from 1 to `of`: one line that changes on a terminal, a few lines elsewhere.
    pub fn progress(&self, label: &str, done: u64, of: u64, since: Instant) {
        let per_second = per_second(done, since.elapsed());
        let bar = (0..BAR).map(|at| if at * of < done * BAR { '#' } else { '.' }).collect::<String>();
        let text =
            format!("   {label:<LABEL$} [{}] {:>11}  {per_second}", self.paint.green(&bar), format!("{}/{}", count(done), count(of)));
        if stdout().is_terminal() {
            self.open.set(done < of);
            put(&format!("\r{text}  {}", if done < of { "" } else { "\n" }));
        } else if done.is_multiple_of((of / LINES).max(1)) {
            self.line(text);
        }
    }

    pub fn request(&self, text: &str) {
        self.line(format!("   -> {text}"));
    }

    /// A status, good when it is below 400, and how long it took.
    pub fn answer(&self, status: http::StatusCode, took: Duration) {
        let text = status.to_string();
        let text = if status.as_u16() < 400 { self.paint.green(&text) } else { self.paint.yellow(&text) };
        self.line(format!("   <- {text}  {}", self.paint.dim(&format!("({} ms)", took.as_millis()))));
    }

    pub fn fact(&self, label: &str, value: impl AsRef<str>) {
        self.line(format!("      {} {}", self.paint.dim(&format!("{label:<LABEL$}")), value.as_ref()));
    }

    pub fn millis(&self, took: Duration, what: &str) {
        self.line(format!("      {:>LABEL$} {what}", format!("{} ms", took.as_millis())));
    }

    pub fn total(&self, took: Duration, what: &str) {
        self.line(format!("      {}", self.paint.bold(&format!("{:>LABEL$} {what}", format!("{} ms", took.as_millis())))));
    }

    /// A line of a table: a label and right-aligned columns.
    pub fn row(&self, label: &str, columns: [&str; 3]) {
        let [before, after, difference] = columns;
        self.line(format!("      {label:<LABEL$} {before:>20} {after:>20} {difference:>20}"));
    }

    pub fn verdict(&self, text: &str) {
        self.line(format!("      {}", self.paint.green(text)));
    }

    /// A command to be pasted, under what it does.
    pub fn command(&self, what: &str, command: &str) {
        self.line(format!("   {}\n      {command}", self.paint.dim(what)));
    }

    pub fn failure(&self, text: &str) {
        self.line(format!("\n{} {text}", self.paint.red("error:")));
    }
}

/// `1,234`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn per_second(number: u64, took: Duration) -> String {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    format!("{}/s", count(number.saturating_mul(1_000_000) / micros))
}

/// Milliseconds with one decimal.
pub fn fine(took: Duration) -> String {
    format!("{}.{} ms", took.as_millis(), took.subsec_micros() / 100 % 10)
}

/// Seconds with one decimal.
pub fn seconds(took: Duration) -> String {
    format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100)
}

fn put(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A path as a word for a shell.
pub fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
