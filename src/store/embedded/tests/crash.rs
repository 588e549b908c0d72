//! kill -9: what was acknowledged is there.
//!
//! The test starts its own binary again as the process that is killed.

use super::*;
use crate::store::{channels::*, conformance::*};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

/// The database of the process to be killed; without it the child's test does nothing.
const PATH: &str = "KAS402_TEST_CRASH_STORE";
const CHILD: &str = "store::embedded::tests::crash::child_claims_until_it_is_killed";

#[test]
fn whatever_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kas402.db");
    let mut acknowledged: Vec<u64> = Vec::new();
    for (round, lines) in [40, 1, 150].into_iter().enumerate() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut numbers = output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("settled ")?.parse::<u64>().ok());
        acknowledged.extend(numbers.by_ref().take(lines));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts as well.
        acknowledged.extend(numbers);

        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open(&path);
            for n in &acknowledged {
                let payment = store.payment(&key(*n)).await.unwrap().unwrap_or_else(|| panic!("round {round}: payment {n} is lost"));
                assert!(payment.record.charged, "round {round}: the charge of {n} is lost");
            }
            let totals = store.totals().await.unwrap();
            assert!(totals.settled >= u64::try_from(acknowledged.len()).unwrap());
            Checked(Embedded { store: Arc::new(store), directory: tempfile::tempdir().unwrap() }).conserved().await;
        });
    }
    assert!(acknowledged.len() >= 191, "{} acknowledged", acknowledged.len());
}

const CHANNELS_CHILD: &str = "store::embedded::tests::crash::child_serves_channels_until_it_is_killed";
const TASKS: u64 = 8;

#[test]
fn every_acknowledged_charge_and_claim_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kas402.db");
    let mut last = [0; 8];
    for lines in [60, 1, 200] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([CHANNELS_CHILD, "--exact", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let parse = |line: String| {
            let (channel, charges) = line.strip_prefix("charged ")?.split_once(' ')?;
            Some((channel.parse::<usize>().ok()?, charges.parse::<u64>().ok()?))
        };
        let mut charged = output.lines().map_while(Result::ok).filter_map(parse);
        let heard: Vec<_> = charged.by_ref().take(lines).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts as well.
        for (channel, charges) in heard.into_iter().chain(charged) {
            last[channel - 1] = charges;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let books = Books(Embedded { store: Arc::new(open(&path)), directory: tempfile::tempdir().unwrap() });
            books.audit().await;
            for (n, charges) in (1..).zip(last) {
                if charges > 0 {
                    let record = books.record(n).await;
                    // One more of each round may have been on its way.
                    assert!((charges..=charges + 3).contains(&record.charges), "{} of {charges}", record.charges);
                }
            }
        });
    }
    assert!(last.iter().sum::<u64>() >= 200, "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_serves_channels_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let store = Arc::new(open(Path::new(&path)));
    let tasks = (1..=TASKS).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            store.open_channel(&opening(n), NOW).await.unwrap();
            for _ in 0..1_000_000 {
                let k = store.channel(&id(n)).await.unwrap().unwrap().charges + 1;
                let Leased::Held(lease, record) = store.lease(&ask(n, request(k)), NOW).await.unwrap() else { panic!("busy") };
                match record.next_moves().next() {
                    // Every fifth charge is claimed, and the process may die before it hears of it.
                    Some(step) => {
                        store.observe_channel(&id(n), accepted_by(step.txid), NOW).await.unwrap();
                        store.advance_channel(&lease, ChannelFact::Released, NOW).await.unwrap();
                    }
                    None if record.charges % 5 == 4 && !record.active().is_zero() => {
                        let step = step(&record, 1_000_000 * n + k, 50);
                        assert!(matches!(store.advance_channel(&lease, built(&step), NOW).await.unwrap(), ChannelStep::Done(_)));
                    }
                    None => {
                        let fact = committed(&record, k, 20, 10);
                        assert!(matches!(store.advance_channel(&lease, fact, NOW).await.unwrap(), ChannelStep::Done(_)));
                        println!("charged {n} {k}");
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn accepted_by(txid: crate::protocol::ids::TxId) -> ChannelSighting {
    ChannelSighting::MoveAccepted { txid, acceptance: acceptance(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_claims_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let store = Arc::new(open(Path::new(&path)));
    let first = store.totals().await.unwrap();
    let first = 1_000 * (first.pending + first.settled);
    let tasks = (0..8).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (first + task..first + 1_000_000).step_by(8) {
                let (seen, held) = seen(store.claim(&claim(n), NOW).await.unwrap());
                assert_eq!(seen, Seen::Fresh);
                store.advance(&held.unwrap(), settled(), NOW).await.unwrap();
                println!("settled {n}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
