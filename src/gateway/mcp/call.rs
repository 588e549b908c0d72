//! One call of a tool that is sold: what its server answers, and the answer that its client gets.
//!
//! Promises: a result is only ever handed to who delivers it, whole; everything else of its stream goes to the client at once.

use crate::{
    gateway::{
        answer::Answer,
        forward::{Collected, collect},
        upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams},
    },
    protocol::{inputs, policy::Upstream},
    wire::{
        canonical, header, headers,
        mcp::{
            answer::{self, Answered, Verdict},
            events::{Event, Events},
        },
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Value, json, value::RawValue};
use std::{
    sync::{Mutex, OnceLock},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Before a stream that its server closed is asked for again, when the server does not say.
const RESUME_AFTER: Duration = Duration::from_secs(1);
/// The shortest and the longest that it may say.
const RESUME_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));

/// What a call is, and how its parts speak to each other.
pub(in crate::gateway) struct ToolCall {
    pub audience: String,
    pub tool: String,
    pub arguments: Option<Value>,
    /// The client's id of the call.
    pub(super) id: Box<RawValue>,
    /// The one its server knows.
    pub(super) own_id: String,
    /// Of a revision whose results say what they are.
    pub(super) tagged: bool,
    pub(in crate::gateway) limit: usize,
    pub(super) charge_errors: bool,
    /// What goes to the client before the answer.
    pub(super) aside: mpsc::Sender<Aside>,
    /// Answers that other streams brought.
    pub(super) elsewhere: Mutex<Option<mpsc::Receiver<Bytes>>>,
    /// Set right before the answer is given, when it is the server's own.
    pub(super) said: OnceLock<Said>,
}

/// What goes to the client before the answer.
pub(super) enum Aside {
    /// The server answers with a stream.
    Stream(HeaderMap),
    Event(Bytes),
}

/// What a server's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Said {
    /// The result of the tool.
    Result,
    /// An error of the protocol, without a result.
    Error,
    /// No message under this call: an answer of HTTP, passed as it is.
    Http,
}

/// A server's answer as the store keeps it: without id and receipt.
pub(in crate::gateway) struct ToolAnswer {
    pub said: Said,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// It counts as delivered, and is charged.
    pub served: bool,
}

impl ToolCall {
    /// What the request identity covers in place of a body.
    pub fn operation(&self) -> Vec<u8> {
        canonical::to_vec(&json!({ "arguments": self.arguments, "name": self.tool }))
    }

    /// The answer that is given next is the server's own.
    pub fn say(&self, said: Said) {
        // A call is answered once.
        let _ = self.said.set(said);
    }

    /// Reads the server's answer to its end. A stream that the server closes before is asked for again, as far as the server lets it be.
    pub async fn answer(
        &self,
        upstreams: &dyn Upstreams,
        upstream: &Upstream,
        request: &UpstreamRequest,
        reply: UpstreamReply,
    ) -> Result<ToolAnswer, UpstreamFailure> {
        let UpstreamReply { status, headers, mut body } = reply;
        if status == 200 && !inputs::plainly_coded(&headers) {
            // Asked for or not: what cannot be looked at is not passed on.
            return Err(UpstreamFailure::Broken);
        }
        if status == 200 && super::is_stream(&headers) {
            return self.stream(upstreams, upstream, request, headers, body).await;
        }
        let body = match collect(&HeaderMap::new(), body.as_mut(), self.limit).await? {
            Collected::Whole(body) => body,
            Collected::Streaming(_) => {
                tracing::warn!(tool = self.tool, limit = self.limit, "a result is longer than message_limit_bytes");
                return Err(UpstreamFailure::Broken);
            }
        };
        let found = answer::read(&body).filter(|found| found.own_id() == Some(&self.own_id));
        match found.map(|found| self.judge(&found)).transpose()? {
            Some(found) if status == 200 => Ok(found),
            // Some revisions answer errors with a status of their own.
            Some(ToolAnswer { said: Said::Error, body, .. }) => {
                let body = answer::error(&self.id, &body, None).ok_or(UpstreamFailure::Broken)?.into();
                Ok(ToolAnswer { said: Said::Http, status, headers: without_length(headers), body, served: false })
            }
            Some(_) => Err(UpstreamFailure::Broken),
            // An accepted call without an answer, or somebody else's, is none.
            None if status < 300 || answer::hides_own_id(&body) => Err(UpstreamFailure::Broken),
            None => Ok(ToolAnswer { said: Said::Http, status, headers: without_length(headers), body, served: false }),
        }
    }

    async fn stream(
        &self,
        upstreams: &dyn Upstreams,
        upstream: &Upstream,
        request: &UpstreamRequest,
        headers: HeaderMap,
        mut body: Box<dyn ReplyBody>,
    ) -> Result<ToolAnswer, UpstreamFailure> {
        self.tell(Aside::Stream(without_length(headers))).await;
        let mut elsewhere = self.elsewhere.lock().expect("no panic while it is locked").take();
        let mut course = Course { last_id: None, pause: RESUME_AFTER, deadline: Instant::now() + request.timeout };
        loop {
            let mut events = Events::new(self.limit);
            loop {
                let chunk = tokio::select! {
                    biased;
                    found = found(&mut elsewhere) => return self.judge(&answer::read(&found).ok_or(UpstreamFailure::Broken)?),
                    chunk = timeout_at(course.deadline, body.chunk()) => chunk.map_err(|_| UpstreamFailure::Timeout)?,
                };
                match chunk {
                    Ok(Some(chunk)) => {
                        for event in events.feed(&chunk).map_err(|_| UpstreamFailure::Broken)? {
                            if let Some(answer) = self.event(event, &mut course, request.timeout).await? {
                                return Ok(answer);
                            }
                        }
                    }
                    Ok(None) => {
                        if let Some(event) = events.last()
                            && let Some(answer) = self.event(event, &mut course, request.timeout).await?
                        {
                            return Ok(answer);
                        }
                        break;
                    }
                    // Of a stream that breaks off nothing is lost, where it can be resumed; half an event is none.
                    Err(_) if course.last_id.is_some() => break,
                    Err(failure) => return Err(failure),
                }
            }
            body = loop {
                let again = course.resume(request).ok_or(UpstreamFailure::Broken)?;
                let pause = sleep(course.pause); // why: the server says how long it wants to be left alone
                tokio::select! {
                    biased;
                    found = found(&mut elsewhere) => return self.judge(&answer::read(&found).ok_or(UpstreamFailure::Broken)?),
                    () = pause => {}
                }
                if Instant::now() >= course.deadline {
                    return Err(UpstreamFailure::Timeout);
                }
                let reply = upstreams.send(upstream, again).await?;
                match reply.status {
                    200 if super::is_stream(&reply.headers) && inputs::plainly_coded(&reply.headers) => break reply.body,
                    // Somebody else holds the stream: its answer comes from there, or the stream ends.
                    409 => {}
                    _ => return Err(UpstreamFailure::Broken),
                }
            };
        }
    }

    /// Passes an event on, or finds the answer in it.
    async fn event(&self, event: Event, course: &mut Course, silence: Duration) -> Result<Option<ToolAnswer>, UpstreamFailure> {
        if let Some(id) = &event.id {
            course.last_id = Some(id.clone());
        }
        if let Some(millis) = event.retry_millis {
            course.pause = Duration::from_millis(millis).clamp(RESUME_BOUNDS.0, RESUME_BOUNDS.1);
        }
        if event.data.is_empty() {
            self.tell(Aside::Event(event.raw)).await;
            return Ok(None);
        }
        course.deadline = Instant::now() + silence;
        match answer::read(&event.data) {
            Some(found) if found.own_id() == Some(&self.own_id) => return self.judge(&found).map(Some),
            // An answer to another call, and what may hide one.
            Some(found) if found.own_id().is_some() => {}
            None if answer::hides_own_id(&event.data) || !answer::is_json(&event.data) => {}
            _ => self.tell(Aside::Event(event.raw)).await,
        }
        Ok(None)
    }

    /// What an answer under this call's id is worth. What is no result of a tool (the handle of a task that nobody asked for, say) is a
    /// failure of its server: there will be no other answer.
    fn judge(&self, found: &Answered<'_>) -> Result<ToolAnswer, UpstreamFailure> {
        let kept = json_headers();
        if let Some(error) = found.error {
            let body = Bytes::copy_from_slice(error.get().as_bytes());
            return Ok(ToolAnswer { said: Said::Error, status: 200, headers: kept, body, served: false });
        }
        let result = found.result.ok_or(UpstreamFailure::Broken)?;
        let verdict = Verdict::of(result).ok_or(UpstreamFailure::Broken)?;
        let served = !verdict.asks_for_input() && (self.charge_errors || !verdict.is_error());
        let body = Bytes::copy_from_slice(result.get().as_bytes());
        Ok(ToolAnswer { said: Said::Result, status: 200, headers: kept, body, served })
    }

    /// A client that does not take it is gone; that changes nothing.
    async fn tell(&self, aside: Aside) {
        let _ = self.aside.send(aside).await;
    }

    /// The message for the client, of an answer in the terms of HTTP; `None` when that is to be passed as it is.
    pub(super) fn message(&self, answer: &Answer) -> Option<Bytes> {
        let receipt = answer.headers.get(headers::PAYMENT_RESPONSE).and_then(|value| header::decode(value.as_bytes()).ok());
        let said = self.said.get().copied();
        let message = match said {
            Some(Said::Http) => return None,
            Some(Said::Error) => answer::error(&self.id, &answer.body, receipt.as_ref()),
            Some(Said::Result) => answer::result(&self.id, &answer.body, receipt.as_ref()),
            // Nothing but a stored result has this status.
            None if answer.status == 200 => answer::result(&self.id, &answer.body, receipt.as_ref()),
            None => None,
        };
        let message = message.unwrap_or_else(|| {
            let words = serde_json::from_slice(&answer.body).unwrap_or_else(|_| json!({ "error": "upstream_failed" }));
            let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            answer::refusal(&self.id, &words, receipt.as_ref(), retry_after, self.tagged)
        });
        Some(message.into())
    }
}

/// Where a stream stands.
struct Course {
    last_id: Option<String>,
    pause: Duration,
    /// A server that has been silent until then has failed.
    deadline: Instant,
}

impl Course {
    /// The request that goes on after the last event; `None` where the server named none.
    fn resume(&self, request: &UpstreamRequest) -> Option<UpstreamRequest> {
        let mut headers = request.headers.clone();
        for name in [CONTENT_TYPE, CONTENT_LENGTH, headers::IDEMPOTENCY_KEY] {
            headers.remove(name);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(LAST_EVENT_ID, HeaderValue::try_from(self.last_id.as_deref()?).ok()?);
        let path_and_query = request.path_and_query.clone();
        let UpstreamRequest { timeout, silence, .. } = *request;
        Some(UpstreamRequest { method: Method::GET, path_and_query, headers, body: Bytes::new(), timeout, silence })
    }
}

async fn found(elsewhere: &mut Option<mpsc::Receiver<Bytes>>) -> Bytes {
    match elsewhere {
        Some(receiver) => match receiver.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Those of a message of its own: what else a server's answer had belongs to its session.
fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn without_length(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(CONTENT_LENGTH);
    headers
}
