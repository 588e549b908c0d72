//! What `make bench` compares the gateway with: pingora and nothing else.
//!
//! `bare_pingora proxy LISTEN UPSTREAM [THREADS]` passes everything to one upstream;
//! `bare_pingora static402 LISTEN HEADER_BYTES BODY_BYTES [THREADS]` answers 402 with a `PAYMENT-REQUIRED` header and a
//! body of these sizes.

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    http::ResponseHeader,
    modules::http::HttpModules,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use std::{net::SocketAddr, process::ExitCode};

/// The gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

enum Bare {
    Proxy(SocketAddr),
    Static402(Box<ResponseHeader>, Bytes),
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let Self::Static402(head, body) = self else { return Ok(false) };
        let session = session.as_downstream_mut();
        session.write_response_header(head.clone()).await?;
        session.write_response_body(body.clone(), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        match self {
            Self::Proxy(upstream) => Ok(Box::new(HttpPeer::new(upstream, false, String::new()))),
            Self::Static402(..) => pingora::Error::e_explain(pingora::InternalError, "nothing is forwarded"),
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
        "static402" => (static_402(what.parse().ok()?, args.get(3)?.parse().ok()?).ok()?, &args[4..]),
        _ => return None,
    };
    let threads = rest.first().map_or(Some(1), |threads| threads.parse().ok())?;
    Some((bare, listen, threads))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((bare, listen, threads)) = parse(&args) else {
        eprintln!("usage: bare_pingora proxy LISTEN UPSTREAM [THREADS] | static402 LISTEN HEADER_BYTES BODY_BYTES [THREADS]");
        return ExitCode::FAILURE;
    };
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
