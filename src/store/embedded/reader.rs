//! The reading side: a connection of its own on a thread of its own, beside the writer or beside another process.
//!
//! A read begins after it was asked for, so it sees everything acknowledged before (write-ahead log: readers see
//! the last commit and block nobody). It never writes.

use super::{
    channels::{self, UsedKey, Versioned},
    codec, read, schema,
};
use crate::{
    protocol::ids::{ChannelId, PaymentIdentifier, StoreId},
    store::{
        Checkpoint, PaymentKey, PaymentRecord, Query, StoreError, StoredPayment, Totals,
        channels::{rules::StreamLease, *},
    },
};
use rusqlite::Connection;
use std::{path::Path, sync::Arc, thread::JoinHandle};
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

    /// See [`ChannelStore::channel`].
    pub async fn channel(&self, id: &ChannelId) -> Result<Option<ChannelRecord>, StoreError> {
        Ok(self.versioned(id).await?.map(|found| found.record))
    }

    /// See [`ChannelStore::channels`].
    pub async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        let query = *query;
        self.read(move |conn| Ok(channels::channels(conn, &query)?.into_iter().map(Arc::new).collect())).await
    }

    /// See [`ChannelStore::charge`].
    pub async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        let (channel, identifier) = (*channel, identifier.clone());
        self.read(move |conn| channels::charge(conn, &channel, &identifier)).await
    }

    /// See [`ChannelStore::charges`].
    pub async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        let channel = *channel;
        self.read(move |conn| channels::charges(conn, &channel, after, limit)).await
    }

    /// See [`ChannelStore::settled_moves`].
    pub async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        let channel = *channel;
        self.read(move |conn| channels::settled_moves(conn, &channel, after, limit)).await
    }

    /// See [`ChannelStore::channel_totals`].
    pub async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.read(|conn| read::head(conn).map(|head: codec::Head| head.channel_totals())).await
    }

    pub(super) async fn versioned(&self, id: &ChannelId) -> Result<Option<Versioned>, StoreError> {
        let id = *id;
        self.read(move |conn| channels::channel(conn, &id)).await
    }

    pub(super) async fn revision(&self, sequence: u64) -> Result<Option<u64>, StoreError> {
        self.read(move |conn| channels::revision(conn, sequence)).await
    }

    pub(super) async fn stream_lease(&self, sequence: u64) -> Result<Option<StreamLease>, StoreError> {
        self.read(move |conn| channels::stream_lease(conn, sequence)).await
    }

    pub(super) async fn used_keys(&self, sequence: u64, limit: u32) -> Result<Vec<UsedKey>, StoreError> {
        self.read(move |conn| channels::used_keys(conn, sequence, limit)).await
    }

    pub(super) async fn is_used(&self, sequence: u64, key: UsedKey) -> Result<bool, StoreError> {
        self.read(move |conn| channels::is_used(conn, sequence, &key)).await
    }

    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
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
