//! The one thread that writes: group commit.
//!
//! All verbs that wait when the thread looks share one transaction. When one of them fails, which is rare, the transaction is undone and
//! they all run again, each in a savepoint of its own, so that only those that fail are undone. Nothing is
//! answered before COMMIT returned, and nothing lingers for company: a group forms while the previous one is being
//! synced. After a failure that leaves the outcome in doubt the connection is opened anew; the thread never ends
//! before its store does, and a disk that recovers serves again.

use super::{
    schema::{explain, reopen_writer},
    verbs::Step,
};
use crate::{protocol::ids::StoreId, store::StoreError};
use rusqlite::{Connection, ErrorCode};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};

/// Most verbs of one transaction: bounds the work a single failure undoes.
const GROUP: usize = 1_024;
/// Verbs that may wait before callers wait for room.
const QUEUE: usize = 4_096;
/// Written groups after which the log is moved into the database when nobody waits, and when somebody does.
const CHECKPOINT_IDLE: u32 = 128;
const CHECKPOINT_BUSY: u32 = 256;

/// Verbs after which the log of charges is moved to its tables: the more, the fewer pages each costs, and the longer one group waits for it.
const FOLD: u64 = if cfg!(test) { 7 } else { 4_096 };

/// It fills the write-ahead log like that many groups.
const FOLD_FILLS: u32 = if cfg!(test) { 1 } else { CHECKPOINT_BUSY };

/// How the writer has worked since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Verbs answered from them.
    pub verbs: u64,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    verbs: AtomicU64,
}

/// Hands verbs to the thread. Dropping it finishes what waits and closes the connection.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// A verb and whoever waits for it.
trait Job: Send {
    /// Runs in the group's transaction. `false`: it failed and left anything behind; the group has to be undone.
    fn run(&mut self, step: &mut Step<'_>) -> bool;
    /// Runs again in a savepoint. `false`: it failed, was undone and is answered.
    fn run_apart(&mut self, step: &mut Step<'_>) -> bool;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T, U, F, A> {
    verb: F,
    value: Option<T>,
    ending: Option<(A, oneshot::Sender<Result<U, StoreError>>)>,
}

impl<T, U, F, A> Task<T, U, F, A>
where
    A: FnOnce(Result<T, StoreError>) -> Result<U, StoreError>,
{
    fn send(&mut self, result: Result<T, StoreError>) {
        if let Some((then, reply)) = self.ending.take() {
            // Nobody waits any more when the request is gone; its hold then ends by itself.
            let _ = reply.send(then(result));
        }
    }
}

impl<T: Send, U: Send, F, A> Job for Task<T, U, F, A>
where
    F: FnMut(&mut Step<'_>) -> Result<T, StoreError> + Send,
    A: FnOnce(Result<T, StoreError>) -> Result<U, StoreError> + Send,
{
    fn run(&mut self, step: &mut Step<'_>) -> bool {
        self.value = (self.verb)(step).ok();
        self.value.is_some()
    }

    fn run_apart(&mut self, step: &mut Step<'_>) -> bool {
        match step.attempt(&mut self.verb) {
            Ok(value) => {
                self.value = Some(value);
                true
            }
            Err(error) => {
                self.send(Err(error));
                false
            }
        }
    }

    fn answer(mut self: Box<Self>, committed: Result<(), StoreError>) {
        match (committed, self.value.take()) {
            (Ok(()), Some(value)) => self.send(Ok(value)),
            (Ok(()), None) => self.send(Err(StoreError::Unavailable("the verb was not run".to_owned()))),
            (Err(error), _) => self.send(Err(error)),
        }
    }
}

impl Writer {
    pub fn start(path: PathBuf, id: StoreId, conn: Connection) -> Result<Self, StoreError> {
        Self::begin(path, id, conn, false)
    }

    /// A writer that a mark does not stop.
    pub fn start_moving(path: PathBuf, id: StoreId, conn: Connection) -> Result<Self, StoreError> {
        Self::begin(path, id, conn, true)
    }

    fn begin(path: PathBuf, id: StoreId, conn: Connection, moving: bool) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let counters = Arc::new(Counters::default());
        // Before anything is read that a step may be judged by.
        let alone = Alone::since_now(&conn);
        let mut state =
            Thread { path, id, conn: Some(conn), alone, moving, counters: counters.clone(), since_checkpoint: 0, since_fold: 0 };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                share_the_core();
                state.serve(jobs);
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self { queue: Some(queue), counters, thread: Some(thread) })
    }

    /// Runs `verb` in the next group and answers when it is durable. Cancelling before it is queued runs
    /// nothing; afterwards it runs all the same. It may run twice, the first time in vain.
    pub async fn run<T, F>(&self, verb: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Step<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.run_then(verb, |result| result).await
    }

    /// The same, and `then` runs with the result, on the writer's thread and before the next group, whoever still waits for it. It
    /// must be quick.
    pub async fn run_then<T, U, F, A>(&self, verb: F, then: A) -> Result<U, StoreError>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnMut(&mut Step<'_>) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) -> Result<U, StoreError> + Send + 'static,
    {
        let gone = || StoreError::Unavailable("the writer has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let task = Task { verb, value: None, ending: Some((then, reply)) };
        self.queue.as_ref().ok_or_else(gone)?.send(Box::new(task)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended before it answered".to_owned())))
    }

    pub fn stats(&self) -> WriterStats {
        WriterStats { commits: self.counters.commits.load(Ordering::Relaxed), verbs: self.counters.verbs.load(Ordering::Relaxed) }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been seen by whoever waited for an answer.
            let _ = thread.join();
        }
    }
}

/// Where all cores are busy, a verb that arrives does not interrupt the requests that are about to bring the next ones: they share
/// its commit. Costs nothing while a core is idle, and less than one time slice otherwise. Refused by some systems, which then commit more often.
fn share_the_core() {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: reads the parameters, which outlive the call, and changes nothing but how this thread is scheduled.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) } != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "the store's thread is scheduled like any other");
        }
    }
}

/// Whether nobody but this connection has written to the file since the store was opened. Once somebody did, for ever not: what was read
/// before that may still be in memory.
#[derive(Debug)]
pub(super) struct Alone {
    /// SQLite's own count of what others wrote; `None`: not alone.
    version: Option<i64>,
}

impl Alone {
    const NEVER: Self = Self { version: None };

    fn since_now(conn: &Connection) -> Self {
        Self { version: others_wrote(conn).ok() }
    }

    /// Inside a write transaction, which nobody can come before any more.
    fn still(&mut self, conn: &Connection) -> bool {
        self.version = self.version.filter(|version| others_wrote(conn).is_ok_and(|now| now == *version));
        self.version.is_some()
    }
}

fn others_wrote(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version").and_then(|mut statement| statement.query_row([], |row| row.get(0)))
}

struct Thread {
    path: PathBuf,
    id: StoreId,
    /// `None` after an outcome in doubt, until it could be opened again.
    conn: Option<Connection>,
    alone: Alone,
    /// Serves nobody, and so writes whatever the store's mark says.
    moving: bool,
    counters: Arc<Counters>,
    since_checkpoint: u32,
    /// Verbs since the log of charges was moved.
    since_fold: u64,
}

impl Thread {
    fn serve(&mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut group = Vec::with_capacity(GROUP);
        // What the last process left.
        self.fold();
        while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            self.commit(&mut group);
            if self.since_fold >= FOLD {
                self.fold();
            }
            self.checkpoint(jobs.is_empty());
        }
        self.fold();
    }

    fn commit(&mut self, group: &mut Vec<Box<dyn Job>>) {
        let (alone, path, id) = (&mut self.alone, &self.path, self.id);
        let reopen = || {
            // What happened in between is not known.
            *alone = Alone::NEVER;
            reopen_writer(path, id)
        };
        let outcome = match self.conn.take().map_or_else(reopen, Ok) {
            Ok(conn) => {
                let outcome = transact(&conn, group, self.moving, &mut self.alone);
                // In doubt: a new connection finds out from the file what is there.
                if !matches!(outcome, Err(StoreError::Unknown(_))) && conn.is_autocommit() {
                    self.conn = Some(conn);
                }
                outcome
            }
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            self.since_checkpoint += 1;
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            let verbs = u64::try_from(group.len()).unwrap_or(u64::MAX);
            self.since_fold = self.since_fold.saturating_add(verbs);
            self.counters.verbs.fetch_add(verbs, Ordering::Relaxed);
        }
        for job in group.drain(..) {
            job.answer(outcome.clone());
        }
    }

    /// Moves the log of charges to its tables. A failure leaves it where it is, which costs nothing but time.
    fn fold(&mut self) {
        self.since_fold = 0;
        let Some(conn) = &self.conn else { return };
        let folded = begin(conn).and_then(|()| {
            let staged = Step::begin(conn, true, false).and_then(|mut step| step.fold_charges());
            let committed = staged.and_then(|()| execute(conn, "COMMIT").map_err(explain));
            if committed.is_err() {
                roll_back(conn);
            }
            committed
        });
        self.since_checkpoint = self.since_checkpoint.saturating_add(FOLD_FILLS);
        if let Err(error) = folded {
            tracing::warn!(%error, "the store's log of charges could not be moved to its tables");
        }
        if !conn.is_autocommit() {
            // Still inside: a new connection finds out what is there.
            self.conn = None;
        }
    }

    /// Between two groups, so that no waiting answer pays for it. A failure costs nothing but a longer log.
    fn checkpoint(&mut self, idle: bool) {
        let due = if idle { CHECKPOINT_IDLE } else { CHECKPOINT_BUSY };
        if let Some(conn) = self.conn.as_ref().filter(|_| self.since_checkpoint >= due) {
            self.since_checkpoint = 0;
            if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the store's log could not be moved into the database");
            }
        }
    }
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]))
}

/// IMMEDIATE: whoever else writes this file is waited for here, never in the middle.
fn begin(conn: &Connection) -> Result<(), StoreError> {
    execute(conn, "BEGIN IMMEDIATE").map(drop).map_err(explain)
}

/// Runs the group in one transaction; jobs that fail leave it. `Ok` only when the rest is durable.
fn transact(conn: &Connection, group: &mut Vec<Box<dyn Job>>, moving: bool, alone: &mut Alone) -> Result<(), StoreError> {
    begin(conn)?;
    let staged = match together(conn, group, moving, alone.still(conn)) {
        Ok(true) => Ok(()),
        Ok(false) => {
            roll_back(conn);
            begin(conn)?;
            apart(conn, group, moving, alone.still(conn))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = staged {
        roll_back(conn);
        return Err(error);
    }
    match execute(conn, "COMMIT") {
        Ok(_) => Ok(()),
        Err(error) => {
            roll_back(conn);
            Err(explain_commit(error))
        }
    }
}

/// `false`: one failed, and what all of them wrote has to be undone. A savepoint for each costs more than a charge.
fn together(conn: &Connection, group: &mut [Box<dyn Job>], moving: bool, alone: bool) -> Result<bool, StoreError> {
    let mut step = Step::begin(conn, moving, alone)?;
    // Once SQLite has rolled back by itself, nothing may run outside a transaction.
    let all = group.iter_mut().all(|job| job.run(&mut step) && !conn.is_autocommit());
    if all { step.finish().map(|()| true) } else { Ok(false) }
}

/// Every job in a savepoint of its own.
fn apart(conn: &Connection, group: &mut Vec<Box<dyn Job>>, moving: bool, alone: bool) -> Result<(), StoreError> {
    let mut step = Step::begin(conn, moving, alone)?;
    group.retain_mut(|job| {
        // Once SQLite has rolled back, nothing may run outside a transaction.
        conn.is_autocommit() || job.run_apart(&mut step)
    });
    if conn.is_autocommit() {
        return Err(StoreError::Unavailable("the database rolled the whole group back".to_owned()));
    }
    step.finish()
}

/// When this fails too, the connection is still inside the transaction and is thrown away, which rolls back.
fn roll_back(conn: &Connection) {
    if !conn.is_autocommit()
        && let Err(error) = conn.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "a failed group could not be rolled back, the connection is opened anew");
    }
}

/// A COMMIT that found no room, or the file locked, wrote no complete commit frame (it is the last thing written) and
/// cannot come back. After any other failure, of a sync above all, the frame may lie in the log and count after a crash.
fn explain_commit(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Unknown(error.to_string()),
    }
}
