//! Calls under way, by the id under which their server knows them.
//!
//! A server that resumes streams may send the answer to a call over another one than the call's: to whoever asks with
//! `Last-Event-ID`, or on the stream of a GET. Promises: such an answer is handed to the call it belongs to, and what the client of
//! that other stream gets is what the call was answered, after its charge; what belongs to no call of this process is withheld.

use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::sync::{mpsc, watch};

/// Answers kept for streams that are resumed late, bytes over all calls.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// And how many.
const KEPT_ANSWERS: usize = 1_024;

/// What is known of every call.
#[derive(Default)]
pub(in crate::gateway) struct Calls {
    calls: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<String, Entry>,
    /// In the order in which they ended.
    ended: VecDeque<(String, usize)>,
    bytes: usize,
}

#[derive(Clone)]
struct Entry {
    elsewhere: mpsc::Sender<Bytes>,
    answer: watch::Receiver<Option<Bytes>>,
}

/// A call under way. Dropped without an answer, it withholds it for good.
pub(super) struct UnderWay {
    calls: Arc<Calls>,
    id: String,
    answer: watch::Sender<Option<Bytes>>,
    answered: bool,
}

impl Calls {
    /// Takes a call up. The receiver gets what other streams brought for it.
    pub(super) fn begin(self: &Arc<Self>, id: &str) -> (UnderWay, mpsc::Receiver<Bytes>) {
        let (elsewhere, found) = mpsc::channel(1);
        let (sender, answer) = watch::channel(None);
        let mut known = self.calls.lock().expect("no panic while the map is locked");
        known.by_id.insert(id.to_owned(), Entry { elsewhere, answer });
        (UnderWay { calls: self.clone(), id: id.to_owned(), answer: sender, answered: false }, found)
    }

    /// What a stream is to pass on in place of an answer that it brought. Waits until the call is charged; `None` withholds.
    pub(super) async fn redeem(&self, id: &str, message: Bytes) -> Option<Bytes> {
        let entry = self.calls.lock().expect("no panic while the map is locked").by_id.get(id).cloned();
        let Entry { elsewhere, mut answer } = entry?;
        // The call may have its answer already, and needs one only.
        let _ = elsewhere.try_send(message);
        // Ends with the call at the latest.
        let answered = answer.wait_for(Option::is_some).await.ok()?;
        answered.clone()
    }
}

impl UnderWay {
    /// The message that the client was answered with.
    pub(super) fn answered(mut self, message: Bytes) {
        self.answered = true;
        let mut known = self.calls.calls.lock().expect("no panic while the map is locked");
        known.bytes += message.len();
        known.ended.push_back((self.id.clone(), message.len()));
        self.answer.send_replace(Some(message));
        while known.bytes > KEPT_BYTES || known.ended.len() > KEPT_ANSWERS {
            let Some((id, bytes)) = known.ended.pop_front() else { break };
            known.by_id.remove(&id);
            known.bytes -= bytes;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.answered {
            self.calls.calls.lock().expect("no panic while the map is locked").by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    fn known(calls: &Calls) -> (usize, usize, usize) {
        let known = calls.calls.lock().unwrap();
        (known.by_id.len(), known.ended.len(), known.bytes)
    }

    #[tokio::test]
    async fn an_answer_from_elsewhere_is_handed_to_its_call_and_gets_what_the_call_was_answered() {
        let calls = Arc::new(Calls::default());
        let (under_way, mut elsewhere) = calls.begin("a");
        let asking = {
            let calls = calls.clone();
            tokio::spawn(async move { calls.redeem("a", bytes(1)).await })
        };
        assert_eq!(elsewhere.recv().await, Some(bytes(1)));
        under_way.answered(bytes(2));
        assert_eq!(asking.await.unwrap(), Some(bytes(2)), "what was paid for, not what the server sent");
        assert_eq!(calls.redeem("a", bytes(1)).await, Some(bytes(2)), "also late");
        assert_eq!(calls.redeem("b", bytes(1)).await, None, "of no call of this process");
    }

    #[tokio::test]
    async fn a_call_that_ends_without_an_answer_is_forgotten_and_withheld() {
        let calls = Arc::new(Calls::default());
        let (under_way, _elsewhere) = calls.begin("a");
        let asking = {
            let calls = calls.clone();
            tokio::spawn(async move { calls.redeem("a", bytes(1)).await })
        };
        tokio::task::yield_now().await;
        drop(under_way);
        assert_eq!((asking.await.unwrap(), calls.redeem("a", bytes(1)).await, known(&calls)), (None, None, (0, 0, 0)));
    }

    #[tokio::test]
    async fn the_oldest_answers_give_way_and_calls_under_way_never_do() {
        let calls = Arc::new(Calls::default());
        let (first, _elsewhere) = calls.begin("first");
        for n in 0..3 * KEPT_ANSWERS {
            calls.begin(&n.to_string()).0.answered(bytes(1));
        }
        assert_eq!(known(&calls), (KEPT_ANSWERS + 1, KEPT_ANSWERS, KEPT_ANSWERS));
        assert_eq!(calls.redeem("0", bytes(1)).await, None);
        assert_eq!(calls.redeem(&(3 * KEPT_ANSWERS - 1).to_string(), bytes(1)).await, Some(bytes(1)));

        for n in 0..9 {
            calls.begin(&format!("long {n}")).0.answered(bytes(KEPT_BYTES / 4));
            assert!(known(&calls).2 <= KEPT_BYTES);
        }
        assert_eq!((calls.redeem("long 4", bytes(1)).await, known(&calls).1), (None, 4));
        let (too_long, _elsewhere) = calls.begin("too long");
        let waits = calls.calls.lock().unwrap().by_id["too long"].answer.clone();
        too_long.answered(bytes(KEPT_BYTES + 1));
        assert_eq!(known(&calls), (1, 0, 0), "not even one");
        assert_eq!(waits.borrow().as_ref().map(Bytes::len), Some(KEPT_BYTES + 1), "who waited for it gets it");
        first.answered(bytes(1));
        assert_eq!(calls.redeem("first", bytes(1)).await, Some(bytes(1)));
    }
}
