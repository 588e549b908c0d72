//! Channels.

use super::Ledger;
use crate::world::{Life, World};
use kas402::protocol::ids::{ChannelId, Outpoint, TxId};
use kaspa_consensus_core::tx::Transaction;

#[derive(Clone, Debug)]
pub struct Signed;
#[derive(Debug)]
pub(super) struct Channel;
#[derive(Debug)]
pub(super) struct Escrow;

impl Ledger {
    pub fn channel_name(&self, id: &ChannelId) -> String {
        format!("c{}", &id.to_string()[..4])
    }
    pub fn channel_trouble(&self, _: &ChannelId) {}
    pub(super) async fn is_of_a_channel(&self, _: &World, _: &TxId) -> bool {
        false
    }
    pub(super) fn escrow_spent(&self, _: &World, _: &TxId, _: &Transaction, _: &[Outpoint]) {}
    pub(super) async fn may_run_request(&self, _: &World, _: &Life, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
    pub(super) async fn check_channels(&self, _: &World) {}
    pub(super) async fn check_channels_at_the_end(&self, _: &World) {}
}
