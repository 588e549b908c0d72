//! Pages that were written by half, or spoilt later.

use super::*;
use crate::store::{Reading, conformance::*, sample_books};
use std::{fs, os::unix::fs::FileExt};

const PAGE: u64 = 4_096;

/// A store whose log is moved into the database, and closed.
async fn closed(directory: &Path) -> PathBuf {
    let path = directory.join("kas402.db");
    let store = open(&path);
    sample_books::fill(&store).await;
    for n in 100..220 {
        let (_, held) = seen(store.claim(&crate::store::Claim { identifier: identifier(n), ..claim(n) }, NOW).await.unwrap());
        store.advance(&held.unwrap(), settled(), NOW).await.unwrap();
    }
    drop(store);
    assert!(!directory.join("kas402.db-wal").exists(), "the last connection leaves no log");
    path
}

/// What a reader says of everything; an error where it refuses.
async fn told(path: &Path) -> Result<String, StoreError> {
    let reader = EmbeddedStore::open_read_only(path)?;
    let payments = reader.payments(&query(crate::store::Selection::All)).await?;
    let channels = reader.read_channels(&crate::store::channels::ChannelQuery {
        selection: crate::store::channels::ChannelSelection::All,
        after: 0,
        limit: u32::MAX,
    });
    let channels = channels.await?;
    let mut text = format!("{payments:?} {channels:?} {:?} {:?}", reader.totals().await?, reader.channel_totals().await?);
    for channel in &channels {
        text +=
            &format!("{:?} {:?}", reader.charges(&channel.id, 0, u32::MAX).await?, reader.settled_moves(&channel.id, 0, u32::MAX).await?);
    }
    for n in 1..=220 {
        text += &format!("{:?}", reader.payment(&key(n)).await?);
    }
    Ok(text)
}

/// Every page of the file, by turns its first and its last half, lost to zeros, to another page's bytes, and to noise.
#[tokio::test]
async fn a_spoilt_page_is_found_by_the_check_and_never_read_as_money() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed(directory.path()).await;
    let whole = fs::read(&path).unwrap();
    let expect = told(&path).await.unwrap();
    EmbeddedStore::open_read_only(&path).unwrap().check().await.unwrap();
    let (mut found, mut harmless) = (0, Vec::new());
    for page in 0..u64::try_from(whole.len()).unwrap() / PAGE {
        for (half, kind) in [(0, 0), (PAGE / 2, 0), (PAGE / 2, 1), (0, 2), (PAGE / 2, 2)] {
            fs::write(&path, &whole).unwrap();
            let from = usize::try_from(page * PAGE + half).unwrap();
            let other = usize::try_from((page + 3) * PAGE + half).unwrap() % (whole.len() - 4_096);
            let spoilt: Vec<u8> = match kind {
                0 => vec![0; 2_048],
                1 => whole[other..other + 2_048].to_vec(),
                _ => whole[from..from + 2_048].iter().map(|byte| byte ^ 0x5a).collect(),
            };
            if whole[from..from + 2_048] == spoilt {
                continue;
            }
            fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&spoilt, page * PAGE + half).unwrap();
            let checked = match EmbeddedStore::open_read_only(&path) {
                Ok(reader) => reader.check().await.map(drop),
                Err(error) => Err(error),
            };
            let read = told(&path).await;
            match checked {
                Err(StoreError::Corrupt(_) | StoreError::Unavailable(_)) => found += 1,
                Err(other) => panic!("page {page}: {other}"),
                // Room that no row uses: then everything is as it was.
                Ok(()) => {
                    assert!(matches!(&read, Ok(text) if *text == expect), "page {page} half {half} kind {kind} passes the check");
                    harmless.push((page, half, kind));
                }
            }
            // Refused or right; a list may lack what the tree lost, which is why there is a check.
            if let Ok(text) = read {
                let changed = text.len() > expect.len();
                assert!(!changed, "page {page} half {half} kind {kind}: more than there was");
            }
        }
    }
    assert!(found > 100 && harmless.len() < found / 4, "{found} found, {harmless:?} of no consequence");
}

/// A power cut in the middle of a checkpoint: the database has half a page, and the log still has all of it.
#[tokio::test]
async fn a_page_torn_while_the_log_is_moved_is_written_again_from_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kas402.db");
    let store = open(&path);
    for n in 1..=100 {
        seen(store.claim(&claim(n), NOW).await.unwrap()).1.unwrap();
    }
    // As the files lie at this moment, with every page of the database torn that the log has.
    let cut = tempfile::tempdir().unwrap();
    let copy = cut.path().join("kas402.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(directory.path().join("kas402.db-wal"), cut.path().join("kas402.db-wal")).unwrap();
    let log = fs::read(cut.path().join("kas402.db-wal")).unwrap();
    // Older frames, which a shorter log has left behind it, have another salt.
    let living = log[32..].chunks(24 + 4_096).filter(|frame| frame[8..16] == log[16..24]);
    let frames = living.map(|frame| u64::from(u32::from_be_bytes(frame[..4].try_into().unwrap())));
    let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
    let mut torn = 0;
    for page in frames {
        file.write_all_at(&[0xee; 2_048], (page - 1) * PAGE + 2_048).unwrap();
        torn += 1;
    }
    assert!(torn > 100, "{torn}");
    let again = open(&copy);
    for n in 1..=100 {
        assert!(again.payment(&key(n)).await.unwrap().is_some(), "{n} was acknowledged");
    }
    drop(again);
    EmbeddedStore::open_read_only(&copy).unwrap().check().await.unwrap();
}

/// A power cut in the middle of a commit: its frame lies in the log by half, and nobody was told.
#[tokio::test]
async fn a_commit_torn_in_the_log_never_was_and_takes_nothing_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kas402.db");
    let store = open(&path);
    for n in 1..=20 {
        seen(store.claim(&claim(n), NOW).await.unwrap()).1.unwrap();
    }
    let log = directory.path().join("kas402.db-wal");
    let acknowledged = fs::metadata(&log).unwrap().len();
    seen(store.claim(&claim(21), NOW).await.unwrap()).1.unwrap();
    let after = fs::read(&log).unwrap();
    for torn in [acknowledged + 1, acknowledged + 24, acknowledged + 2_048, u64::try_from(after.len()).unwrap() - 1] {
        let cut = tempfile::tempdir().unwrap();
        let copy = cut.path().join("kas402.db");
        fs::copy(&path, &copy).unwrap();
        // What was not written yet is what lay there before: nothing, or old frames.
        let mut bytes = after.clone();
        bytes[usize::try_from(torn).unwrap()..].fill(0xee);
        fs::write(cut.path().join("kas402.db-wal"), &bytes).unwrap();
        let again = open(&copy);
        for n in 1..=20 {
            assert!(again.payment(&key(n)).await.unwrap().is_some(), "{n} was acknowledged");
        }
        assert!(again.payment(&key(21)).await.unwrap().is_none(), "torn at {torn}");
        assert_eq!(seen(again.claim(&claim(21), NOW).await.unwrap()).0, Seen::Fresh);
    }
}

#[tokio::test]
async fn a_damaged_file_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed(directory.path()).await;
    let pages = fs::metadata(&path).unwrap().len() / PAGE;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The second half of the pages, whatever they hold.
    for page in pages / 2..pages {
        file.write_all_at(&[0; 2_048], page * PAGE).unwrap();
    }
    let refused = EmbeddedStore::open(&path, StoreId([1; 16])).unwrap_err();
    assert!(matches!(&refused, StoreError::Corrupt(why) if why.contains("damaged")), "{refused}");
}
