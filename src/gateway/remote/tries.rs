//! One settlement, asked for until the facilitator decides it or the time is over. The same call every time, so that it finds the same settlement.

use super::{AGAIN, RemoteError};
use std::time::Duration;
use tokio::time::Instant;

/// What an answer means.
pub(super) enum Heard<T> {
    Decided(T),
    /// Nothing can be said yet, in these words: the same call again, after a while.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// How these tries end, the last of them made again and again, and how many there were in three seconds.
    async fn ends(tries: &[u8]) -> (&'static str, usize) {
        let asked = Cell::new(0);
        let ask = |_| {
            let made = asked.replace(asked.get() + 1);
            let said = tries[made.min(tries.len() - 1)];
            async move {
                match said {
                    b'd' => Ok(Heard::Decided(())),
                    b'a' => Ok(Heard::Again(AGAIN, String::new())),
                    b'o' => Ok(Heard::NotOurs(String::new())),
                    b'n' => Err(RemoteError::NotSent(String::new())),
                    _ => Err(RemoteError::Unknown(String::new())),
                }
            }
        };
        let end = match until_decided(Instant::now() + 3 * AGAIN, ask).await {
            Ok(()) => "decided",
            Err(Undecided::Pending(_)) => "pending",
            Err(Undecided::NotSent(_)) => "not sent",
            Err(Undecided::NotOurs) => "not ours",
        };
        (end, asked.get())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_arrived_is_pending_whatever_happens_afterwards() {
        for (tries, end) in [
            ("d", ("decided", 1)),
            ("ad", ("decided", 2)),
            ("nud", ("decided", 3)),
            ("o", ("not ours", 1)),
            ("a", ("pending", 3)),
            ("u", ("pending", 3)),
            ("n", ("not sent", 3)),
            ("an", ("pending", 3)),
            ("un", ("pending", 3)),
            ("nu", ("pending", 3)),
        ] {
            assert_eq!(ends(tries.as_bytes()).await, end, "{tries}");
        }
    }
}
