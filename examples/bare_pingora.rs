//! What `make bench` compares the gateway with: pingora and nothing else.
//!
//! `bare_pingora proxy LISTEN UPSTREAM [THREADS]` passes everything to one upstream; `bare_pingora courteous LISTEN UPSTREAM [THREADS]` does it with what any
//! gateway on the internet owes both sides, and nothing else: limits of time, an id of the request on either side, and who asked;
//! `bare_pingora static402 LISTEN HEADER_BYTES BODY_BYTES [THREADS]` answers 402 with a `PAYMENT-REQUIRED` header and a
//! body of these sizes.

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use pingora::{
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use rand::{RngCore, rngs::OsRng};
use std::{net::SocketAddr, process::ExitCode, time::Duration};

/// For one read, write or connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a request, where it gets one.
type Id = Option<HeaderValue>;

/// The gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

enum Bare {
    Proxy(SocketAddr),
    Courteous(SocketAddr),
    Static402(Box<ResponseHeader>, Bytes),
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = Id;

    fn new_ctx(&self) -> Id {
        None
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _: &mut Id) -> pingora::Result<bool> {
        let session = session.as_downstream_mut();
        let (head, body) = match self {
            Self::Static402(head, body) => (head, body),
            Self::Proxy(_) => return Ok(false),
            Self::Courteous(_) => {
                session.set_read_timeout(Some(PATIENCE));
                session.set_write_timeout(Some(PATIENCE));
                return Ok(false);
            }
        };
        session.write_response_header(head.clone()).await?;
        session.write_response_body(body.clone(), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Id) -> pingora::Result<Box<HttpPeer>> {
        match self {
            Self::Proxy(upstream) => Ok(Box::new(HttpPeer::new(upstream, false, String::new()))),
            Self::Courteous(upstream) => {
                let mut peer = HttpPeer::new(upstream, false, String::new());
                let options = &mut peer.options;
                (options.connection_timeout, options.read_timeout, options.write_timeout) =
                    (Some(PATIENCE), Some(PATIENCE), Some(PATIENCE));
                Ok(Box::new(peer))
            }
            Self::Static402(..) => pingora::Error::e_explain(pingora::InternalError, "nothing is forwarded"),
        }
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, id: &mut Id) -> pingora::Result<()> {
        let Self::Courteous(_) = self else { return Ok(()) };
        let mut random = [0; 16];
        OsRng.fill_bytes(&mut random);
        let new = HeaderValue::try_from(hex::encode(random)).expect("hex is visible ASCII");
        request.insert_header("x-request-id", new.clone())?;
        *id = Some(new);
        if let Some(ip) = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip) {
            request.insert_header("x-forwarded-for", ip.to_string())?;
        }
        if let Some(host) = session.req_header().headers.get("host") {
            request.insert_header("x-forwarded-host", host.clone())?;
        }
        request.insert_header("x-forwarded-proto", "http")?;
        request.remove_header("forwarded");
        Ok(())
    }

    async fn response_filter(&self, _: &mut Session, response: &mut ResponseHeader, id: &mut Id) -> pingora::Result<()> {
        match id {
            Some(id) => response.insert_header("x-request-id", id.clone()),
            None => Ok(()),
        }
    }
}

fn static_402(header_bytes: usize, body_bytes: usize) -> pingora::Result<Bare> {
    let body = Bytes::from("b".repeat(body_bytes));
    let mut head = ResponseHeader::build(402, None)?;
    head.insert_header("payment-required", "a".repeat(header_bytes))?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("cache-control", "private, no-store")?;
    head.insert_header("content-length", body.len())?;
    Ok(Bare::Static402(Box::new(head), body))
}

fn parse(args: &[String]) -> Option<(Bare, &str, usize)> {
    let (mode, listen, what) = (args.first()?, args.get(1)?, args.get(2)?);
    let (bare, rest) = match mode.as_str() {
        "proxy" => (Bare::Proxy(what.parse().ok()?), &args[3..]),
        "courteous" => (Bare::Courteous(what.parse().ok()?), &args[3..]),
        "static402" => (static_402(what.parse().ok()?, args.get(3)?.parse().ok()?).ok()?, &args[4..]),
        _ => return None,
    };
    let threads = rest.first().map_or(Some(1), |threads| threads.parse().ok())?;
    Some((bare, listen, threads))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((bare, listen, threads)) = parse(&args) else {
        eprintln!("usage: bare_pingora proxy|courteous LISTEN UPSTREAM [THREADS] | static402 LISTEN HEADER_BYTES BODY_BYTES [THREADS]");
        return ExitCode::FAILURE;
    };
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
