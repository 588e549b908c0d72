//! What a client is told when its request could not be passed on or answered.

use super::respond;
use crate::protocol::refusal::Code;
use http::HeaderValue;
use pingora::{Error, ErrorSource, ErrorType, protocols::http::ServerSession};

/// Answers in the gateway's words where an answer is still possible; the connection ends in any case. Returns the status, 0 for none.
pub(super) async fn tell(session: &mut ServerSession, error: &Error, request_id: Option<&HeaderValue>, upstream: &str) -> u16 {
    if session.response_written().is_some_and(|head| !head.status.is_informational()) {
        // Too late for an answer: the client sees a broken body.
        session.shutdown().await;
        return 0;
    }
    let Some(code) = blame(error) else { return 0 };
    log(code, error, request_id, upstream);
    session.set_keepalive(None);
    let id = request_id.cloned().unwrap_or_else(|| HeaderValue::from_static("-"));
    // A client that is gone needs no answer.
    let _ = respond::whole(session, respond::refusal(code, &id), &id).await;
    code.status()
}

/// `None` when the client is gone.
fn blame(error: &Error) -> Option<Code> {
    use ErrorType::*;
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => Some(Code::UpstreamTimeout),
        (ErrorSource::Upstream, _) => Some(Code::UpstreamFailed),
        (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed | WriteTimedout) => None,
        (ErrorSource::Downstream, InvalidHTTPHeader) => Some(Code::PathMalformed),
        (ErrorSource::Downstream, _) => Some(Code::BodyIncomplete),
        (_, etype) if *etype == respond::CUT => None,
        // Our own: a policy or head that cannot be forwarded.
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Code::UpstreamFailed),
    }
}

fn log(code: Code, error: &Error, request_id: Option<&HeaderValue>, upstream: &str) {
    let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    match error.esource() {
        ErrorSource::Downstream => tracing::debug!(request_id, %code, %error, "bad request"),
        _ => tracing::warn!(request_id, upstream, %code, %error, "free request failed"),
    }
}
