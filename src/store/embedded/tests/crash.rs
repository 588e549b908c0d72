//! kill -9: what was acknowledged is there.
//!
//! The test starts its own binary again as the process that is killed.

use super::*;
use crate::store::conformance::*;
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
