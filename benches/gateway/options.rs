//! Command line of the benchmark.

use std::path::PathBuf;

const USAGE: &str = "usage: make bench, or scripts/bench [OPTION...]
  --rounds N      rounds per comparison (7)
  --seconds N     length of one measurement (2)
  --connections N open connections of the load generator (32)
  --payments N    paid requests, and streams of each kind (60)
  --channels N    channels whose vouchers pay (256)
  --idle N        idle connections (1000)
  --only NAME     free, 402, channels, stores, exact, streams or memory; may be repeated
  --json FILE     also write everything as JSON";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Free,
    Unpaid,
    Channels,
    Stores,
    Exact,
    Streams,
    Memory,
}

#[derive(Debug)]
pub struct Options {
    pub rounds: usize,
    pub seconds: u32,
    pub connections: usize,
    pub payments: usize,
    pub channels: usize,
    pub idle: usize,
    pub json: Option<PathBuf>,
    /// Empty runs everything.
    only: Vec<Section>,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, &'static str> {
        let (json, only) = (None, Vec::new());
        let mut options = Self { rounds: 7, seconds: 2, connections: 32, payments: 60, channels: 256, idle: 1_000, json, only };
        while let Some(arg) = args.next() {
            // cargo says this to every benchmark.
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or(USAGE)?;
            match arg.as_str() {
                "--rounds" => options.rounds = positive(&value)?,
                "--seconds" => options.seconds = u32::try_from(positive(&value)?).map_err(|_| USAGE)?,
                "--connections" => options.connections = positive(&value)?,
                "--payments" => options.payments = positive(&value)?,
                "--channels" => options.channels = positive(&value)?,
                "--idle" => options.idle = positive(&value)?,
                "--json" => options.json = Some(value.into()),
                "--only" => options.only.push(section(&value)?),
                _ => return Err(USAGE),
            }
        }
        Ok(options)
    }

    pub fn runs(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }
}

fn positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or(USAGE)
}

fn section(name: &str) -> Result<Section, &'static str> {
    match name {
        "free" => Ok(Section::Free),
        "402" => Ok(Section::Unpaid),
        "channels" => Ok(Section::Channels),
        "stores" => Ok(Section::Stores),
        "exact" => Ok(Section::Exact),
        "streams" => Ok(Section::Streams),
        "memory" => Ok(Section::Memory),
        _ => Err(USAGE),
    }
}
