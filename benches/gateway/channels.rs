//! Requests that vouchers pay, beside a free route of the same gateway, a bare pingora, and the verification that each of them needs.
//!
//! The gateway is a whole process over a real node: every answer is a charge in the embedded store, on the disk. All contestants are
//! driven by the same load generator ([`drive`]); nothing is signed while it measures.

use crate::{
    Fallible,
    drive::{self, Driven, Feed},
    load::Sample,
    micro::{self, Steps},
    options::Options,
    process::{SERVER_CORE, pin_this_thread},
    rounds::{Standing, interleave},
    servers::{FREE_PATH, Gateway, Server},
    stats::median,
    vouchers::Fleet,
};
use kas402::binding::escrow_v1::voucher::digest;
use std::{
    hint::black_box,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

/// Open connections.
const CONNECTIONS: [usize; 2] = [64, 256];
const NAMES: [&str; 3] = ["kas402, paid by voucher", "kas402, free route", "bare pingora"];
/// Requests of each channel for the first, short run; later ones are sized by what was seen.
const FIRST: usize = 48;
/// Over what was seen, so that a run ends by the clock.
const MARGIN: f64 = 1.4;
/// How long one core verifies in each round, for each of two ways.
const VERIFYING: Duration = Duration::from_millis(100);
const SYNCS: usize = 50;

/// One number of connections.
pub struct Block {
    pub connections: usize,
    /// Paid by voucher, free, bare pingora.
    pub standings: [Standing; 3],
}

/// Microseconds of one core.
#[derive(Clone, Copy, Debug)]
pub struct Verification {
    /// `VoucherKey::verify`: the signature alone.
    pub signature: f64,
    /// `SignedVoucher::verify`: with the digest.
    pub voucher: f64,
}

pub struct Measured {
    pub channels: usize,
    pub blocks: Vec<Block>,
    /// One per round.
    pub verifications: Vec<Verification>,
    /// Bytes of a paid request as it is sent.
    pub request_bytes: usize,
    /// Microseconds of an fdatasync of 4 KiB where the store lies, median.
    pub sync_us: f64,
    pub steps: Steps,
}

enum Figure {
    Run(Sample),
    Core(Verification),
}

/// Measures the channels of `fleet`, which nobody else uses.
pub async fn measure(options: &Options, mut fleet: Fleet, gateway: &Gateway, pingora: &Server, folder: &Path) -> Fallible<Measured> {
    let (charged, spent) = (gateway.counter("kas402_charged_sompi_total").await?, fleet.spent());
    fleet.prepare(FIRST).await?;
    let (request, channel) = fleet.example().ok_or("requests were prepared")?;
    let payment = request.strip_suffix(b"\r\n\r\n").and_then(|head| head.rsplit(|byte| *byte == b' ').next());
    let steps = micro::paid(payment.ok_or("a request ends in its payment")?, channel)?;
    let request_bytes = request.len();
    let mut pace = 0.0_f64;
    for (connections, who) in runs() {
        let sample = run_once(&mut fleet, gateway, pingora, connections, who, 1)?;
        pace = if who == 0 { pace.max(sample.per_second) } else { pace };
        fleet.prepare(FIRST).await?;
    }
    let count = runs().count();
    let figures = interleave(options, count + 1, async |index| {
        let Some((connections, who)) = runs().nth(index) else { return Ok(Figure::Core(verification(&fleet)?)) };
        if who == 0 {
            fleet.prepare((pace * f64::from(options.seconds) * MARGIN / fleet.len() as f64).ceil() as usize).await?;
        }
        let sample = run_once(&mut fleet, gateway, pingora, connections, who, options.seconds)?;
        pace = if who == 0 { pace.max(sample.per_second) } else { pace };
        Ok(Figure::Run(sample))
    })
    .await?;
    let charged = gateway.counter("kas402_charged_sompi_total").await? - charged;
    let spent = (fleet.spent() - spent) as f64;
    if (charged - spent).abs() > 0.5 {
        return Err(format!("{spent} sompi were answered, {charged} charged").into());
    }

    let mut samples = Vec::with_capacity(count);
    let mut verifications = Vec::new();
    for figures in figures {
        let mut of_one = Vec::with_capacity(figures.len());
        for figure in figures {
            match figure {
                Figure::Run(sample) => of_one.push(sample),
                Figure::Core(verification) => verifications.push(verification),
            }
        }
        samples.push(of_one);
    }
    let mut samples = samples.into_iter();
    let mut standing = |name| Standing::of(name, samples.next().unwrap_or_default());
    let blocks = CONNECTIONS.map(|connections| Block { connections, standings: NAMES.map(&mut standing) }).into();
    Ok(Measured { channels: fleet.len(), blocks, verifications, request_bytes, sync_us: sync_us(folder)?, steps })
}

/// Connections, and whose turn it is by the index of [`NAMES`].
fn runs() -> impl Iterator<Item = (usize, usize)> {
    CONNECTIONS.into_iter().flat_map(|connections| (0..NAMES.len()).map(move |who| (connections, who)))
}

fn run_once(fleet: &mut Fleet, gateway: &Gateway, pingora: &Server, connections: usize, who: usize, seconds: u32) -> Fallible<Sample> {
    if who == 0 {
        let Driven { sample, left } = drive::run(gateway, fleet.feeds(connections), seconds)?;
        fleet.take_back(left);
        return Ok(sample);
    }
    let request: std::sync::Arc<[u8]> = format!("GET {FREE_PATH} HTTP/1.1\r\nHost: kas402.bench\r\n\r\n").into_bytes().into();
    let feeds = (0..connections).map(|_| Feed::Same(request.clone())).collect();
    Ok(drive::run(if who == 1 { gateway } else { pingora }, feeds, seconds)?.sample)
}

/// Verifies vouchers of all channels on the server's core, while the servers have nothing to do.
fn verification(fleet: &Fleet) -> Fallible<Verification> {
    let vouchers = fleet.vouchers();
    let prepared: Vec<_> = vouchers
        .iter()
        .map(|(channel, voucher)| {
            (channel.script.client_key(), digest(&channel.script, channel.outpoint, voucher.amount), voucher.signature)
        })
        .collect();
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            pin_this_thread(SERVER_CORE).map_err(|error| error.to_string())?;
            let signature = time(&prepared, |(key, digest, signature)| key.verify(digest, signature))?;
            let voucher = time(&vouchers, |(channel, voucher)| voucher.verify(&channel.script, channel.outpoint))?;
            Ok(Verification { signature, voucher })
        });
        measured.join().map_err(|_| "the verification panicked")?.map_err(|error: String| error.into())
    })
}

/// Microseconds of one call; all of them must say yes.
fn time<T>(cases: &[T], verify: impl Fn(&T) -> bool) -> Result<f64, String> {
    let (began, mut calls) = (Instant::now(), 0_u32);
    while began.elapsed() < VERIFYING {
        for case in cases {
            if !black_box(verify(black_box(case))) {
                return Err("a voucher of ours does not verify".into());
            }
            calls += 1;
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}

fn sync_us(folder: &Path) -> Fallible<f64> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut waits = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        waits.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&waits))
}
