//! The API behind the gateways: each run of each job answers with words of its own, so that a body tells where it came from.

use crate::world::{Life, World};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use kas402::{
    gateway::upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams},
    protocol::policy::Upstream,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::sleep;

pub struct Api {
    pub life: Arc<Life>,
    pub world: Weak<World>,
}

/// How a run of a job ended, as the API knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody waits for the answer any more.
    Dropped,
    Failed,
    /// An answer that is not paid for.
    Refused,
    Answered,
}

/// One run of one job; dropped when the gateway stops waiting.
pub struct Run {
    world: Weak<World>,
    job: String,
    number: usize,
    ended: bool,
}

impl Run {
    fn end(&mut self, how: End) {
        if !self.ended
            && let Some(world) = self.world.upgrade()
        {
            world.ledger.run_ended(&world, &self.job, self.number, how);
        }
        self.ended = true;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

#[async_trait]
impl Upstreams for Api {
    async fn send(&self, _: &Upstream, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamFailure> {
        let world = self.world.upgrade().expect("a run outlives its gateways");
        self.life.alive().await;
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let job = header("idempotency-key").unwrap_or_default();
        let trouble = !world.is_calm() && world.dice.permille(world.weather.upstream_faults);
        if trouble && world.dice.one_in(4) {
            world.trace.reached("api refuses the connection");
            return Err(UpstreamFailure::Connect);
        }
        let number = world.ledger.run_begins(&world, &self.life, &job, &request.path_and_query).await;
        let mut run = Run { world: self.world.clone(), job: job.clone(), number, ended: false };
        let words = world.ledger.words(&job, number);
        let kind = world.dice.roll(10);
        let thinks = if world.dice.one_in(5) { world.dice.between(500, 4_500) } else { world.dice.between(1, 200) };
        sleep(Duration::from_millis(thinks)).await; // why: time passes in the simulation, not here
        self.life.alive().await;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("content-type"), HeaderValue::from_static("text/plain"));
        let mut status = 200;
        let mut breaks = false;
        if trouble {
            match world.dice.roll(4) {
                0 => {
                    world.trace.reached("api times out");
                    sleep(request.timeout).await; // why: time passes in the simulation, not here
                    run.end(End::Failed);
                    return Err(UpstreamFailure::Timeout);
                }
                1 => {
                    world.trace.reached("api breaks off");
                    run.end(End::Failed);
                    return Err(UpstreamFailure::Broken);
                }
                2 => {
                    world.trace.reached("api answers 500");
                    status = 500;
                }
                _ => {
                    world.trace.reached("api breaks off in its answer");
                    breaks = true;
                }
            }
        } else if kind == 0 {
            status = 404;
        }
        let length = match kind {
            1 | 2 => 600 + usize::try_from(world.dice.roll(400)).unwrap(),
            _ => words.len() + usize::try_from(world.dice.roll(60)).unwrap(),
        };
        let mut text = words.into_bytes();
        text.resize(length.max(text.len()), b'.');
        let chunks = text.chunks(100).map(Bytes::copy_from_slice).collect();
        let end = if status >= 500 { End::Refused } else { End::Answered };
        if end == End::Refused {
            run.end(End::Refused);
        }
        let pause = if length > 500 && world.dice.one_in(2) { world.dice.between(10, 1_500) } else { 0 };
        let body = Body { life: self.life.clone(), chunks, breaks: breaks.then_some(length / 200), run, end, pause };
        Ok(UpstreamReply { status, headers, body: Box::new(body) })
    }
}

struct Body {
    life: Arc<Life>,
    chunks: VecDeque<Bytes>,
    /// After so many chunks.
    breaks: Option<usize>,
    run: Run,
    end: End,
    pause: u64,
}

#[async_trait]
impl ReplyBody for Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamFailure> {
        self.life.alive().await;
        if self.pause > 0 {
            sleep(Duration::from_millis(self.pause)).await; // why: time passes in the simulation, not here
            self.life.alive().await;
        }
        match &mut self.breaks {
            Some(0) => {
                self.run.end(End::Failed);
                return Err(UpstreamFailure::Broken);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let next = self.chunks.pop_front();
        if next.is_none() {
            self.run.end(self.end);
        }
        Ok(next)
    }
}
