//! Entries that no store holds.

use super::*;

/// The payment numbered `n`, of a day's first second; `n` is in its id.
pub fn entry(n: u8, state: EntryState) -> Entry {
    Entry {
        cursor: Cursor::Payment(n.into()),
        scheme: Scheme::Exact,
        network: Network::Simnet,
        id: TxId([n; 32]),
        state,
        amount: Amount::from_sompi(25_000_000).expect("a small amount"),
        route: "chat".to_owned(),
        summary: format!("POST /v1/chat/{n}"),
        payer: Some(format!("kaspasim:payer{n}")),
        pay_to: "kaspasim:payee".to_owned(),
        at: UnixMillis(1_000),
        delivered_at: None,
        status: Some(200),
        identifier: None,
        acceptance: None,
        channel: None,
        number: None,
        entitled_until: None,
    }
}
