//! Colour, only where a person looks: on a terminal, unless `NO_COLOR` is set.

use std::io::IsTerminal;

#[derive(Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    pub const PLAIN: Self = Self { on: false };

    pub fn stdout() -> Self {
        Self { on: wanted() && std::io::stdout().is_terminal() }
    }

    pub fn stderr() -> Self {
        Self { on: wanted() && std::io::stderr().is_terminal() }
    }

    pub fn red(self, text: &str) -> String {
        self.ink("1;31", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.ink("1;33", text)
    }

    pub fn green(self, text: &str) -> String {
        self.ink("1;32", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.ink("2", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.ink("1", text)
    }

    fn ink(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
