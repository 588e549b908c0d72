//! What the demo prints: aligned text, coloured only on a terminal. Knows nothing of what it shows.

use kas402::cli::paint::Paint;
use std::{
    cell::Cell,
    io::{Write, stdout},
    path::Path,
    time::{Duration, Instant},
};

/// Columns of a label.
const LABEL: usize = 13;

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
        let seconds = format!("{:>4}.{} s", since.elapsed().as_secs(), since.elapsed().subsec_millis() / 100);
        self.open.set(false);
        put(&format!("{}   {text}\n", self.paint.green(&seconds)));
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
