//! Interleaved rounds: everybody once per round, in an order that turns, so that a drift of the
//! machine meets all alike.

use crate::{
    Fallible,
    load::{self, Contestant, Sample},
    options::Options,
    stats::median,
};
use serde_json::{Value, json};

/// One contestant's median over the rounds.
#[derive(Clone, Debug)]
pub struct Standing {
    pub name: &'static str,
    pub median: Sample,
    pub samples: Vec<Sample>,
}

pub async fn run(options: &Options, contestants: &[Contestant<'_>]) -> Fallible<Vec<Standing>> {
    for contestant in contestants {
        // Connections, pools and caches are warm before anything counts.
        load::run(options, 1, contestant)?;
    }
    let samples = interleave(options, contestants.len(), async |index| load::run(options, options.seconds, &contestants[index])).await?;
    Ok(contestants.iter().zip(samples).map(|(contestant, samples)| Standing::of(contestant.name, samples)).collect())
}

/// What each of so many measurements gave, in the order of the rounds.
pub async fn interleave<T>(options: &Options, count: usize, mut measure: impl AsyncFnMut(usize) -> Fallible<T>) -> Fallible<Vec<Vec<T>>> {
    let mut measured: Vec<Vec<T>> = (0..count).map(|_| Vec::with_capacity(options.rounds)).collect();
    for round in 0..options.rounds {
        for turn in 0..count {
            let index = (round + turn) % count;
            measured[index].push(measure(index).await?);
        }
    }
    Ok(measured)
}

fn middle(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| median(&samples.iter().map(field).collect::<Vec<_>>());
    Sample {
        per_second: of(|sample| sample.per_second),
        cpu_us: of(|sample| sample.cpu_us),
        busy: of(|sample| sample.busy),
        p50_us: of(|sample| sample.p50_us),
        p99_us: of(|sample| sample.p99_us),
        response_bytes: of(|sample| sample.response_bytes),
    }
}

impl Standing {
    pub fn of(name: &'static str, samples: Vec<Sample>) -> Self {
        Self { name, median: middle(&samples), samples }
    }

    /// The median over the rounds of this one's requests per second over the other's in the same round.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        self.ratio(other, |sample| sample.per_second)
    }

    /// The same of the processor time per request, turned over: below 1 means more expensive.
    pub fn cpu_ratio_to(&self, other: &Self) -> f64 {
        other.ratio(self, |sample| sample.cpu_us)
    }

    fn ratio(&self, other: &Self, field: fn(&Sample) -> f64) -> f64 {
        let ratios: Vec<f64> = self.samples.iter().zip(&other.samples).map(|(a, b)| field(a) / field(b)).collect();
        median(&ratios)
    }

    pub fn json(&self) -> Value {
        let sample = |sample: &Sample| {
            json!({
                "requests_per_second": sample.per_second, "cpu_us_per_request": sample.cpu_us, "busy": sample.busy,
                "p50_us": sample.p50_us, "p99_us": sample.p99_us, "response_bytes": sample.response_bytes,
            })
        };
        json!({ "name": self.name, "median": sample(&self.median), "rounds": self.samples.iter().map(sample).collect::<Vec<_>>() })
    }
}
