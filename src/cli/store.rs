//! `kas402 store migrate FROM TO`: a whole store into a new one, compared record by record. `kas402 store check`: whether one is whole.
//!
//! Where FROM is a configuration whose gateway runs, the gateway moves its store, and tells how far it is; else this process does. From the
//! first step of a move on the source serves nobody, also not a gateway that still runs over it; a check reads only, beside a running
//! gateway if need be.
//! Exit codes: 0 moved (or undone, or whole), 1 not, 2 a mistake in how it was asked.

use super::{
    channels::{print_json, usage},
    fail,
    operator::{AskError, Operator, Which},
    say,
};
use crate::{
    admin::{MoveAsked, MoveProgress},
    runtime::{
        moving::{self, PASSWORD},
        store,
    },
    store::{
        embedded::{EmbeddedReader, Whole},
        moving::{Moved, Part},
    },
};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use zeroize::Zeroizing;

/// How often a gateway that moves its store is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Read every page, record, index and sum of an embedded store
    Check {
        /// Its path
        store: PathBuf,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Move everything into a new store; the old one is closed for good
    Migrate {
        /// The store as it is: the path of an embedded store, the URL of a Redis store, or a configuration (.yaml) that names one. When the
        /// gateway of that configuration runs, it is asked to move its store itself
        from: String,
        /// The store to be made, named alike: a path where nothing is, or a prefix of a server that nobody used. A server's password is read
        /// from KAS402_STORE_PASSWORD, or as the configuration says
        to: String,
        /// Open FROM again after a move that was not completed
        #[arg(long)]
        undo: bool,
        /// For programs: one JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Command) -> ExitCode {
    let (from, to, back, json) = match command {
        Command::Check { store, json } => return check(&store, json).await,
        Command::Migrate { from, to, undo, json } => (from, to, undo, json),
    };
    let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty()).map(Zeroizing::new);
    match asked(&from, &to, password.clone(), back, json).await {
        Ok(Some(done)) => return told(done, json),
        Ok(None) => {}
        Err(error) => return fail(error),
    }
    let (from, to) = match (moving::place(&from, password.clone()), moving::place(&to, password)) {
        (Ok(from), Ok(to)) if store::name(&from) != store::name(&to) => (from, to),
        (Ok(_), Ok(_)) => return usage("FROM and TO are the same store"),
        (Err(error), _) | (_, Err(error)) => return usage(&error),
    };
    let shown = Shown::new(json);
    let done = moving::ended(&from, &to, back, &|part, read| shown.show(part, read)).await;
    shown.end();
    told(done, json)
}

/// What the gateway of this configuration did; `None` where there is none that runs.
async fn asked(
    from: &str,
    to: &str,
    password: Option<Zeroizing<String>>,
    undo: bool,
    json: bool,
) -> Result<Option<MoveProgress>, AskError> {
    if !moving::is_configuration(Path::new(from)) {
        return Ok(None);
    }
    let Ok(operator) = Operator::find(Which::configured(from.into())) else { return Ok(None) };
    // The gateway has another folder.
    let to =
        if to.contains("://") { to.to_owned() } else { std::path::absolute(to).map_or(to.to_owned(), |path| path.display().to_string()) };
    let mut progress: MoveProgress =
        match operator.post_json("/store/migrate", &MoveAsked { to, password: password.map(|password| password.to_string()), undo }) {
            Err(AskError::NotRunning(..)) => return Ok(None),
            answer => answer?,
        };
    let shown = Shown::new(json);
    while let MoveProgress::Running { part, read } = progress {
        if let Some(part) = part {
            shown.show(part, read);
        }
        tokio::time::sleep(LOOK).await; // why: the admin listener pushes nothing
        progress = operator.get("/store/migrate")?;
    }
    shown.end();
    Ok(Some(progress))
}

/// One line of progress, where people look.
struct Shown(bool);

impl Shown {
    fn new(json: bool) -> Self {
        Self(!json && std::io::stderr().is_terminal())
    }

    fn show(&self, part: Part, read: u64) {
        if self.0 {
            eprint!("\r\x1b[K{read} {}", name(part));
        }
    }

    fn end(&self) {
        if self.0 {
            eprint!("\r\x1b[K");
        }
    }
}

fn name(part: Part) -> String {
    let name = serde_json::to_value(part).ok();
    name.and_then(|name| name.as_str().map(|name| name.replace('_', " "))).unwrap_or_default()
}

fn told(done: MoveProgress, json: bool) -> ExitCode {
    match done {
        MoveProgress::Moved { moved, .. } if json => drop(print_json(&moved)),
        MoveProgress::Moved { moved: Moved { store_id, parts }, to } => {
            let counted: Vec<_> = parts.iter().map(|(part, count)| format!("{count} {}", name(*part))).collect();
            say(format!("moved and compared: {}\n{to} is the store {store_id} now: name it in the configuration", counted.join(", ")));
        }
        MoveProgress::Undone { from, to } => say(format!("{from} serves again; {to} never will: remove it")),
        MoveProgress::Failed { error } => return fail(error),
        MoveProgress::None | MoveProgress::Running { .. } => return fail("the gateway was started again: run the same command again"),
    }
    ExitCode::SUCCESS
}

async fn check(path: &Path, json: bool) -> ExitCode {
    let whole = match EmbeddedReader::open(path) {
        Ok(reader) => reader.check().await,
        Err(error) => Err(error),
    };
    match whole {
        Err(error) => fail(error),
        Ok(whole) if json => print_json(&whole),
        Ok(Whole { payments, responses, channels, charges, moves }) => {
            say(format!(
                "whole: {payments} payments, {responses} answers, {channels} channels, {charges} charges, {moves} claims and top-ups"
            ));
            ExitCode::SUCCESS
        }
    }
}
