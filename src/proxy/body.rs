//! Reads a priced request's body whole, within a limit of bytes and of time.

use crate::gateway::{answer::BodyRead, pieces::Pieces};
use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
};
use pingora::protocols::http::ServerSession;
use std::time::Duration;

/// A declared length over the limit is refused before the client is told to continue.
pub(super) async fn read(session: &mut ServerSession, limit: usize, time: Duration) -> BodyRead {
    let headers = &session.req_header().headers;
    if declared(headers).is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return BodyRead::TooLarge;
    }
    if session.is_body_empty() {
        return BodyRead::Whole(Bytes::new());
    }
    if expects_continue(&session.req_header().headers) && session.write_continue_response().await.is_err() {
        return BodyRead::Incomplete;
    }
    tokio::time::timeout(time, collect(session, limit)).await.unwrap_or(BodyRead::Incomplete)
}

async fn collect(session: &mut ServerSession, limit: usize) -> BodyRead {
    let mut body = Pieces::default();
    loop {
        let piece = match session.read_request_body().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return BodyRead::Whole(body.whole()),
            Err(_) => return BodyRead::Incomplete,
        };
        if body.len() + piece.len() > limit {
            return BodyRead::TooLarge;
        }
        body.push(piece);
    }
}

/// Reads and forgets at most `limit` bytes; whether the body ended within that and within `time`.
pub(super) async fn discard(session: &mut ServerSession, limit: usize, time: Duration) -> bool {
    let read = async {
        let mut seen = 0_usize;
        while seen <= limit {
            match session.read_request_body().await {
                Ok(Some(piece)) => seen += piece.len(),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    };
    tokio::time::timeout(time, read).await.unwrap_or(false)
}

/// The body's length as declared; `None` when it is chunked, absent or not a number.
pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    // pingora has refused differing values; a list of equal ones counts as its first.
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.split(',').next()?.trim().parse().ok()
}

pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
