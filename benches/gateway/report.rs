//! The numbers as a table for people and as JSON, with the aims of the project.

use crate::{
    channels::{Block, Measured, Verification},
    exact::{Exact, Paid},
    machine::{self, Machine},
    memory::Memory,
    micro::Steps,
    rounds::Standing,
    servers::FirstOffer,
    stats::{median, quantile},
    stores, streams,
};
use serde_json::{Value, json};
use std::fmt::{self, Write as _};

/// Reads one duration of a payment.
type Milliseconds = fn(&Paid) -> f64;

/// Of a bare pingora's requests per second on a free route.
const FREE_AIM: f64 = 0.90;
/// Of a bare pingora's static 402s per second.
const UNPAID_AIM: f64 = 0.70;
/// Of the free route's requests per second.
const VOUCHER_AIM: f64 = 0.38;
/// Processor time of a paid request over that of bare pingora's request and one verification together.
const VOUCHER_CPU_AIM: f64 = 1.3;
/// Median milliseconds over the node's own report.
const EXACT_AIM_MS: f64 = 5.0;
/// Median milliseconds of an event's way through the gateway.
const EVENT_AIM_MS: f64 = 5.0;
/// A server that used less of its core was held up by the load generator or by other programs: its requests per second say little.
const SATURATED: f64 = 0.90;

pub struct Report {
    text: String,
    json: Value,
    missed: bool,
}

impl Report {
    pub fn new(machine: Machine) -> Self {
        let mut text = String::new();
        let Machine { command, date, model, cores, kernel, load_before, versions } = &machine;
        push(
            &mut text,
            format_args!("$ {command}\n{date}, {cores} x {model}, {kernel}, load before {load_before}\n{}\n", versions.join("; ")),
        );
        push(&mut text, format_args!("server on core 0, wrk and upstream on core 1, medians over interleaved rounds\n"));
        Self { text, json: json!({ "machine": machine.json() }), missed: false }
    }

    pub fn offer(&mut self, offer: &FirstOffer) {
        let FirstOffer { header, body, head_bytes } = offer;
        push(
            &mut self.text,
            format_args!("a 402 here: PAYMENT-REQUIRED {} bytes, all headers {head_bytes}, body {}\n", header.len(), body.len()),
        );
        self.json["offer"] = json!({ "payment_required_bytes": header.len(), "header_bytes": head_bytes, "body_bytes": body.len() });
    }

    pub fn free(&mut self, standings: Vec<Standing>) {
        self.comparison("free", "A free route, forwarded", &standings, "bare pingora", FREE_AIM);
    }

    pub fn unpaid(&mut self, standings: Vec<Standing>) {
        self.comparison("unpaid", "The 402", &standings, "bare pingora", UNPAID_AIM);
    }

    fn comparison(&mut self, key: &str, title: &str, standings: &[Standing], yardstick: &str, aim: f64) {
        let (Some(ours), Some(theirs)) = (standings.first(), standings.iter().find(|standing| standing.name == yardstick)) else { return };
        self.table(key, title, standings, theirs);
        let ratio = ours.ratio_to(theirs);
        self.judge(key, format_args!("at least {aim:.2} of {yardstick}"), ratio >= aim, format_args!("{ratio:.2}"));
    }

    /// Everybody, and what they are of one of them.
    fn table(&mut self, key: &str, title: &str, standings: &[Standing], theirs: &Standing) {
        let (text, yardstick) = (&mut self.text, theirs.name);
        let columns =
            format_args!("{:>9}{:>9}{:>7}{:>9}{:>9}{:>8}   of {yardstick}", "req/s", "CPU us", "busy", "p50 us", "p99 us", "bytes");
        push(text, format_args!("\n{title:<26}{columns}\n"));
        let mut ratios = json!({});
        for standing in standings {
            let (name, m) = (standing.name, standing.median);
            let (speed, cpu) = (standing.ratio_to(theirs), standing.cpu_ratio_to(theirs));
            push(
                text,
                format_args!(
                    "{name:<26}{:>9.0}{:>9.1}{:>6.0}%{:>9.0}{:>9.0}{:>8.0}   {speed:.2} req/s, {cpu:.2} CPU{}\n",
                    m.per_second,
                    m.cpu_us,
                    m.busy * 100.0,
                    m.p50_us,
                    m.p99_us,
                    m.response_bytes,
                    if m.busy < SATURATED { "  (its core was not full)" } else { "" },
                ),
            );
            ratios[name] = json!({ "requests_per_second": speed, "cpu": cpu });
        }
        let contestants: Vec<_> = standings.iter().map(Standing::json).collect();
        self.json[key] = json!({ "contestants": contestants, "yardstick": yardstick, "of_yardstick": ratios });
    }

    pub fn channels(&mut self, measured: Measured) {
        let Measured { channels, blocks, verifications, request_bytes, sync_us, steps } = measured;
        let of = |field: fn(&Verification) -> f64| verifications.iter().map(field).collect::<Vec<_>>();
        let (signatures, vouchers) = (of(|one| one.signature), of(|one| one.voucher));
        let (signature, voucher) = (median(&signatures), median(&vouchers));
        for Block { connections, standings } in &blocks {
            let key = format!("channels_{connections}");
            let title = format!("{channels} channels, {connections} open");
            self.comparison(&key, &title, standings, standings[1].name, VOUCHER_AIM);
            let [paid, _, bare] = standings;
            let floors = bare.samples.iter().zip(&signatures).map(|(bare, signature)| bare.cpu_us + signature);
            let ratios: Vec<f64> = paid.samples.iter().zip(floors).map(|(paid, floor)| paid.cpu_us / floor).collect();
            let ratio = median(&ratios);
            self.json[&key]["cpu_of_pingora_and_verification"] = ratio.into();
            let aim = format_args!("CPU at most {VOUCHER_CPU_AIM} of a bare pingora request and one Schnorr verification");
            self.judge(&key, aim, ratio <= VOUCHER_CPU_AIM, format_args!("{ratio:.2}"));
        }
        push(
            &mut self.text,
            format_args!(
                "one core verifies {:.0} Schnorr signatures per second, {signature:.1} us each; with the voucher's digest {voucher:.1} us\n\
                 a paid request has {request_bytes} bytes; fdatasync of 4 KiB beside the store takes {sync_us:.0} us (median)\n",
                1e6 / signature
            ),
        );
        self.json["channels"] = json!({
            "channels": channels, "request_bytes": request_bytes, "fdatasync_us": sync_us,
            "schnorr_us": { "median": signature, "rounds": signatures }, "voucher_us": { "median": voucher, "rounds": vouchers },
        });
        self.steps("channels_steps", "a request paid by voucher", &steps, steps.iter().map(|(_, us)| us).sum());
    }

    pub fn stores(&mut self, measured: stores::Measured) {
        let stores::Measured { standings, per_payment } = measured;
        let Some(embedded) = standings.first() else { return };
        self.table("stores", "Paid by voucher, 64 open", &standings, embedded);
        for stores::PerPayment { name, round_trips, memory_bytes } in per_payment {
            push(
                &mut self.text,
                format_args!(
                    "{name}: {round_trips:.2} round trips to the store per paid request (aim 2), {memory_bytes:.0} bytes of its memory per payment\n"
                ),
            );
            self.json["stores"][name] = json!({ "round_trips": round_trips, "memory_bytes": memory_bytes });
            let aim = format_args!("at most 2 round trips per paid request, {name}");
            // A lease that had to be asked for twice is no third step.
            self.judge("stores", aim, round_trips <= 2.05, format_args!("{round_trips:.2}"));
        }
    }

    pub fn micro(&mut self, steps: Steps) {
        // The last is the sum of others again.
        let own = steps.iter().rev().skip(1).map(|(_, us)| us).sum();
        self.steps("unpaid_steps", "a 402", &steps, own);
    }

    fn steps(&mut self, key: &str, of: &str, steps: &Steps, sum: f64) {
        push(&mut self.text, format_args!("\nWhere the time of {of} goes, us (plain loops, warm)\n"));
        for (name, us) in steps {
            push(&mut self.text, format_args!("{us:>9.2}  {name}\n"));
        }
        push(&mut self.text, format_args!("{sum:>9.2}  together; the rest of the CPU time is pingora, the kernel and moving data\n"));
        let steps: Vec<Value> = steps.iter().map(|(name, us)| json!({ "step": name, "us": us })).collect();
        self.json[key] = json!({ "steps": steps, "sum_us": sum });
    }

    pub fn exact(&mut self, exact: Exact) {
        let Exact { paid, release_ms, upstream_ms } = exact;
        push(
            &mut self.text,
            format_args!("\nexact, {} payments on a real node at 10 blocks/s\n{:<48}{:>9}{:>9}\n", paid.len(), "", "median", "p90"),
        );
        let mut figures = json!({ "payments": paid.len() });
        let rows: [(&str, &str, Milliseconds); 3] = [
            ("added_ms", "added over the node's own report, ms", |paid| paid.added),
            ("accepted_after_ms", "request sent to the node's report, ms", |paid| paid.accepted_after),
            ("total_ms", "request sent to response, ms", |paid| paid.total),
        ];
        for (key, name, field) in rows {
            let all: Vec<f64> = paid.iter().map(field).collect();
            let (middle, p90) = (median(&all), quantile(&all, 0.9));
            push(&mut self.text, format_args!("{name:<48}{middle:>9.2}{p90:>9.2}\n"));
            figures[key] = json!({ "median": middle, "p90": p90, "all": all });
        }
        for (key, name, mean) in [
            ("release_mean_ms", "  of it: acceptance known to forwarded, mean ms", release_ms),
            ("upstream_mean_ms", "  of it: upstream and delivery record, mean ms", upstream_ms),
        ] {
            push(&mut self.text, format_args!("{name:<48}{mean:>9.2}\n"));
            figures[key] = mean.into();
        }
        self.json["exact"] = figures;
        let added = median(&paid.iter().map(|paid| paid.added).collect::<Vec<_>>());
        self.judge("exact", format_args!("at most {EXACT_AIM_MS} ms median"), added <= EXACT_AIM_MS, format_args!("{added:.2} ms"));
    }

    pub fn streams(&mut self, measured: streams::Measured) {
        let streams::Measured { direct, free, reserved, mcp } = measured;
        let count = free.len();
        push(&mut self.text, format_args!("\nThe first event of a stream, {count} of each\n{:<48}{:>9}{:>9}\n", "", "median", "p90"));
        let rows = [
            ("direct", "without the gateway", direct, false),
            ("free", "a free route", free, true),
            ("reserved", "reserved from a channel", reserved, true),
            ("mcp", "a free call of a tool", mcp, true),
        ];
        self.json["streams"] = json!({ "streams": count });
        for (key, name, all, judged) in rows {
            let (middle, p90) = (median(&all), quantile(&all, 0.9));
            let name = format!("{name}, server to client, ms");
            push(&mut self.text, format_args!("{name:<48}{middle:>9.2}{p90:>9.2}\n"));
            self.json["streams"][key] = json!({ "median": middle, "p90": p90, "all": all });
            if judged {
                self.judge(
                    "streams",
                    format_args!("at most {EVENT_AIM_MS} ms median"),
                    middle <= EVENT_AIM_MS,
                    format_args!("{middle:.2} ms"),
                );
            }
        }
    }

    pub fn memory(&mut self, memory: Memory) {
        let connections = memory.connections;
        push(
            &mut self.text,
            format_args!(
                "\nMemory, MiB resident\n{:<26}{:>9}{:>16}{:>18}\n",
                "",
                "before",
                format!("{connections} idle"),
                "KiB/connection"
            ),
        );
        for (name, resident) in [("kas402", memory.kas402), ("bare pingora", memory.pingora)] {
            let mib = |kib: u64| kib as f64 / 1024.0;
            let each = (resident.with.saturating_sub(resident.before)) as f64 / connections as f64;
            push(&mut self.text, format_args!("{name:<26}{:>9.1}{:>16.1}{each:>18.1}\n", mib(resident.before), mib(resident.with)));
        }
        push(&mut self.text, format_args!("kas402 uses {:.1} % of a core to follow 10 blocks/s\n", memory.following * 100.0));
        self.json["memory"] = memory.json();
    }

    pub fn finish(&mut self) {
        let load = machine::load();
        push(&mut self.text, format_args!("\nload after {load} (this benchmark itself makes about 2)\n"));
        self.json["load_after"] = load.into();
    }

    fn judge(&mut self, key: &str, aim: fmt::Arguments<'_>, met: bool, found: fmt::Arguments<'_>) {
        push(&mut self.text, format_args!("  aim {aim}: {found} {}\n", if met { "PASS" } else { "MISS" }));
        // A part with two aims meets them together.
        let before = self.json[key]["aim_met"].as_bool().unwrap_or(true);
        self.json[key]["aim_met"] = (before && met).into();
        self.missed |= !met;
    }

    pub fn missed(&self) -> bool {
        self.missed
    }

    pub fn json(&self) -> String {
        format!("{:#}\n", self.json)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn push(text: &mut String, words: fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a string");
}
