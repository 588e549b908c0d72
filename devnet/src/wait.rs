//! Bounded waiting for states of the node that come without an event.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::error::{Awaited, Error, Result};

/// Pause between two looks; far below anything a test measures.
const PERIOD: Duration = Duration::from_millis(10);

/// Looks until `check` says yes, fails, or `timeout` has passed.
pub(crate) async fn until<F, Fut>(timeout: Duration, awaited: Awaited, mut check: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let deadline = Instant::now() + timeout;
    while !check().await? {
        if Instant::now() >= deadline {
            return Err(Error::Timeout(awaited));
        }
        sleep(PERIOD).await; // why: what is waited for here has no event
    }
    Ok(())
}

/// Waits until each address accepts a connection: kaspad reports nowhere that its listeners are open.
pub(crate) async fn until_open(addresses: &[SocketAddr], timeout: Duration) -> Result<()> {
    for address in addresses {
        until(timeout, Awaited::ListenersOpen, || async { Ok(TcpStream::connect(address).await.is_ok()) }).await?;
    }
    Ok(())
}
