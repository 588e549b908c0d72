//! One settlement, asked for until the facilitator decides it or the time is over. The same call every time, so that it finds the same settlement.

use super::{AGAIN, RemoteError};
use std::time::Duration;
use tokio::time::Instant;

/// What an answer means.
pub(super) enum Heard<T> {
    Decided(T),
    /// Nothing can be said yet: the same call again. With what it said.
    Again(Duration, String),
    /// The facilitator does not work for this gateway.
    NotOurs(String),
}

/// Why nothing was decided.
pub(super) enum Undecided {
    /// It arrived perhaps, and is on its way perhaps: the same header resumes.
    Pending(String),
    /// No try has left.
    NotSent(String),
    /// The facilitator does not work for this gateway, which the log says.
    NotOurs,
}

/// `ask` makes one try, within the time that it is given.
pub(super) async fn until_decided<T, F>(deadline: Instant, ask: impl Fn(Duration) -> F) -> Result<T, Undecided>
where
    F: Future<Output = Result<Heard<T>, RemoteError>>,
{
    let mut sent = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(AGAIN);
        let (pause, why) = match ask(left).await {
            Ok(Heard::Decided(decided)) => return Ok(decided),
            Ok(Heard::NotOurs(why)) => {
                tracing::error!(why, "the facilitator does not work for this gateway");
                return Err(Undecided::NotOurs);
            }
            Ok(Heard::Again(pause, why)) => {
                sent = true;
                (pause, why)
            }
            Err(error) => {
                sent |= matches!(error, RemoteError::Unknown(_));
                (AGAIN, error.to_string())
            }
        };
        if Instant::now() + pause >= deadline {
            return Err(if sent { Undecided::Pending(why) } else { Undecided::NotSent(why) });
        }
        tokio::time::sleep(pause).await; // why: the other side is asked again, it pushes nothing
    }
}
