//! The reading half of a store: what the books, the reconciliation and a move to another store read.
//!
//! Every [`Store`] has it, and so has what can only read (the embedded store's reader, beside a running gateway), so that
//! the same lists come from both. Never changes anything. Called by `gateway::ledger`, `store::moving` and the CLI.

use super::{
    PaymentKey, PaymentRecord, Query, Store, StoreError, StoredPayment, Totals,
    channels::{ChannelQuery, ChannelRecord, ChannelTotals, ChargeRecord, SettledMove, StoredCharge},
    embedded::EmbeddedReader,
};
use crate::protocol::ids::{ChannelId, PaymentIdentifier, StoreId};
use async_trait::async_trait;
use std::sync::Arc;

/// See the module; each verb is that of the same name in [`Store`] or [`super::channels::ChannelStore`].
#[async_trait]
pub trait Reading: Send + Sync {
    fn store_id(&self) -> StoreId;
    async fn read_payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError>;
    async fn read_payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError>;
    async fn read_totals(&self) -> Result<Totals, StoreError>;
    async fn read_channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError>;
    async fn read_charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError>;
    async fn read_charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError>;
    async fn read_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError>;
    async fn read_channel_totals(&self) -> Result<ChannelTotals, StoreError>;
}

/// Each verb is the inherent or trait method it is named after: the two have no trait in common that could say so.
macro_rules! reads_as_named {
    ($reader:ty $(, [$($bounds:tt)*])?) => {
        #[async_trait]
        impl$(<$($bounds)*>)? Reading for $reader {
            fn store_id(&self) -> StoreId {
                self.id()
            }
            async fn read_payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
                self.payment(key).await
            }
            async fn read_payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
                self.payments(query).await
            }
            async fn read_totals(&self) -> Result<Totals, StoreError> {
                self.totals().await
            }
            async fn read_channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
                self.channels(query).await
            }
            async fn read_charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
                self.charge(channel, identifier).await
            }
            async fn read_charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
                self.charges(channel, after, limit).await
            }
            async fn read_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
                self.settled_moves(channel, after, limit).await
            }
            async fn read_channel_totals(&self) -> Result<ChannelTotals, StoreError> {
                self.channel_totals().await
            }
        }
    };
}

reads_as_named!(S, [S: Store + ?Sized]);
reads_as_named!(EmbeddedReader);
