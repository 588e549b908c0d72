//! The reading side: a connection of its own on a thread of its own, beside the writer or beside another process.
//!
//! A read begins after it was asked for, so it sees everything acknowledged before (write-ahead log: readers see
//! the last commit and block nobody). It never writes.

use super::{codec, read, schema};
use crate::{
    protocol::ids::StoreId,
    store::{Checkpoint, PaymentKey, PaymentRecord, Query, StoreError, StoredPayment, Totals},
};
use rusqlite::Connection;
use std::{path::Path, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Reads that may wait before callers wait for room.
const QUEUE: usize = 1_024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Reads a store, without the power to change it: what the command line opens beside a running gateway.
#[derive(Debug)]
pub struct EmbeddedReader {
    id: StoreId,
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedReader {
    /// Opens an existing store; blocking. Its directory must be writable unless a gateway runs (SQLite keeps the
    /// index of its log there).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (conn, id) = schema::open_reader(path)?;
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-reader".to_owned())
            .spawn(move || {
                while let Some(job) = jobs.blocking_recv() {
                    job(&conn);
                }
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for the reader: {error}")))?;
        Ok(Self { id, queue: Some(queue), thread: Some(thread) })
    }

    pub fn id(&self) -> StoreId {
        self.id
    }

    /// See [`crate::store::Store::payment`].
    pub async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        let key = *key;
        self.read(move |conn| read::payment(conn, &key)).await
    }

    /// See [`crate::store::Store::payments`].
    pub async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        let query = *query;
        self.read(move |conn| read::payments(conn, &query)).await
    }

    /// See [`crate::store::Store::checkpoint`].
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.read(read::checkpoint).await
    }

    /// See [`crate::store::Store::totals`].
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.read(|conn| read::head(conn).map(|head: codec::Head| head.totals())).await
    }

    async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let gone = || StoreError::Unavailable("the reader has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let _ = reply.send(query(conn));
        });
        self.queue.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been seen by whoever waited for an answer.
            let _ = thread.join();
        }
    }
}
