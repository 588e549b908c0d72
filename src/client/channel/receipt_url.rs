//! Asking a server for the receipt of a request: of a stream that ended, or of a request whose answer was lost.

use super::{
    receipt::{ChannelReceipt, Told},
    record::Flight,
};
use crate::client::exchange::{PaidRequest, Transport};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// The receipt, if the server has it now. It is asked for where the request went, whatever origin the server's own URL names.
pub(super) async fn ask(transport: &dyn Transport, flight: &Flight, url: Option<&str>) -> Option<Box<ChannelReceipt>> {
    let request = PaidRequest::new(Method::GET, &flight.url, HeaderMap::new(), Bytes::new()).ok()?;
    let target = match url.map(Url::parse) {
        Some(Ok(url)) => match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        },
        // Where every gateway of this kind keeps them.
        Some(Err(_)) | None => format!("/.well-known/kas402/receipts/{}/{}", flight.channel, flight.identifier.as_str()),
    };
    let reply = transport.send(&request.elsewhere(&target)?, None).await.ok()?;
    match (reply.status, Told::text(&reply.body)?) {
        (StatusCode::OK, Told::Settled(receipt)) => Some(receipt),
        _ => None,
    }
}
