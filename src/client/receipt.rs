//! Reading `PAYMENT-RESPONSE`, and holding it against what was paid.

use super::journal::Entry;
use crate::{
    protocol::{
        amount::Amount,
        ids::TxId,
        network::Network,
        refusal::{Code, Offers},
    },
    wire::{
        canonical,
        header::{self, HeaderError},
    },
};
use serde_json::Value;

/// A receipt as the server wrote it; nothing in it is believed before [`Receipt::matches`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub success: bool,
    /// `None` when the server names no transaction.
    pub transaction: Option<String>,
    pub network: Option<String>,
    pub amount: Option<String>,
    pub payer: Option<String>,
    pub error_reason: Option<String>,
    /// `extensions.kaspa.reason`: the precise code of a refusal.
    pub reason: Option<String>,
    /// `extensions.kaspa.finality`, when the server says which it reached.
    pub finality: Option<String>,
    /// The answer that came with it is not what was paid for, which is still owed.
    pub undelivered: bool,
    /// The whole message in canonical form, for the journal.
    pub text: String,
}

/// Why a receipt is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("PAYMENT-RESPONSE is {0}")]
    Header(HeaderError),
    #[error("PAYMENT-RESPONSE does not say whether the payment succeeded")]
    NoOutcome,
}

/// A receipt of success that is not about this payment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the receipt is for transaction {0:?}")]
    Transaction(String),
    #[error("the receipt is for network {0:?}")]
    Network(String),
    #[error("the receipt is for {0:?} sompi")]
    Amount(String),
}

/// Refusals after which the same request may be paid for anew: nothing moved, and another
/// transaction or a newer offer can help. Under the other 402 codes it could not.
const ANEW: [Code; 6] = [
    Code::OfferKeyUnknown,
    Code::OfferNotOurs,
    Code::OfferOtherPrice,
    Code::OfferExpired,
    Code::TransactionRejected,
    Code::TransactionConflicted,
];

impl Receipt {
    /// Reads the value of `PAYMENT-RESPONSE`; lenient about what it does not use.
    pub fn read(value: &[u8]) -> Result<Self, ReceiptError> {
        let message = header::decode(value).map_err(ReceiptError::Header)?;
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self {
            success: message.get("success").and_then(Value::as_bool).ok_or(ReceiptError::NoOutcome)?,
            transaction: text("/transaction"),
            network: text("/network"),
            amount: text("/amount"),
            payer: text("/payer"),
            error_reason: text("/errorReason"),
            reason: text("/extensions/kaspa/reason"),
            finality: text("/extensions/kaspa/finality"),
            undelivered: text("/extensions/kaspa/status").as_deref() == Some("undelivered"),
            text: String::from_utf8(canonical::to_vec(&message)).expect("canonical JSON is UTF-8"),
        })
    }

    /// Whether a receipt of success is about exactly this payment. The transaction must be named.
    pub fn matches(&self, entry: &Entry) -> Result<(), Mismatch> {
        let txid = self.transaction.clone().unwrap_or_default();
        if !self.names(&entry.txid) {
            return Err(Mismatch::Transaction(txid));
        }
        if let Some(network) = self.network.as_ref().filter(|n| n.parse::<Network>() != Ok(entry.network)) {
            return Err(Mismatch::Network(network.clone()));
        }
        if let Some(amount) = self.amount.as_ref().filter(|a| Amount::parse_wire(a) != Ok(entry.amount)) {
            return Err(Mismatch::Amount(amount.clone()));
        }
        Ok(())
    }

    /// The code with which the server proves that this payment moved nothing and a new one may help.
    pub fn proven_rejection(&self, entry: &Entry) -> Option<Code> {
        let about_us = self.transaction.is_none() || self.names(&entry.txid);
        let code = Code::ALL.iter().copied().find(|code| Some(code.as_str()) == self.reason.as_deref())?;
        (!self.success && about_us && code.offers() == Offers::Attach && ANEW.contains(&code)).then_some(code)
    }

    fn names(&self, txid: &TxId) -> bool {
        self.transaction.as_ref().is_some_and(|text| text.parse() == Ok(*txid))
    }
}
