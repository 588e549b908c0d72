//! What happened in one run: a hash of all of it, the last lines, what was reached, and the first thing that was wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};
use tokio::time::Instant;

/// Lines shown of a run that failed.
const TAIL: usize = 70;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics of tasks are swallowed by their handles: here they end the run that this thread drives.
pub fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.with_borrow_mut(|panic| panic.get_or_insert_with(|| info.to_string()).len());
            if !QUIET.with_borrow(|quiet| *quiet) {
                before(info);
            }
        }));
    });
    PANIC.take();
    QUIET.set(true);
}

pub fn release_panics() {
    QUIET.set(false);
}

static LOUD: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| std::env::var_os("KAS402_SEED").is_some());

pub struct Trace {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
    wrong: Option<String>,
    reached: BTreeMap<String, u64>,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Record {
    pub hash: u64,
    pub lines: u64,
    pub tail: Vec<String>,
    pub wrong: Option<String>,
    pub reached: BTreeMap<String, u64>,
}

impl Trace {
    pub fn new() -> Self {
        Self { began: Instant::now(), state: Mutex::new(State { hash: 0xcbf2_9ce4_8422_2325, ..State::default() }) }
    }

    pub fn note(&self, line: impl AsRef<str>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = self.began.elapsed().as_millis();
        let line = format!("{at:>7} {}", line.as_ref());
        // FNV-1a
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state.lines += 1;
        if state.tail.len() == TAIL {
            state.tail.pop_front();
        }
        if *LOUD {
            println!("{line}");
        }
        state.tail.push_back(line);
    }

    /// The ledger's verdict. The first one ends the run.
    pub fn wrong(&self, what: impl AsRef<str>) {
        let first = {
            let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let first = state.wrong.is_none();
            state.wrong.get_or_insert_with(|| what.as_ref().to_owned());
            first
        };
        if first {
            self.note(format!("WRONG: {}", what.as_ref()));
        }
    }

    pub fn is_wrong(&self) -> bool {
        if let Some(panic) = PANIC.take() {
            self.wrong(format!("a task panicked: {panic}"));
        }
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wrong.is_some()
    }

    /// Counts what the run came to, so that a simulator that sees nothing is found out.
    pub fn reached(&self, what: impl Into<String>) {
        *self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).reached.entry(what.into()).or_default() += 1;
    }

    pub fn record(&self) -> Record {
        self.is_wrong();
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Record {
            hash: state.hash,
            lines: state.lines,
            tail: state.tail.iter().cloned().collect(),
            wrong: state.wrong.clone(),
            reached: state.reached.clone(),
        }
    }
}
