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
    calls: Arc<super::super::Gateway>,
    id: String,
    answer: watch::Sender<Option<Bytes>>,
    answered: bool,
}

impl Calls {
    /// Takes a call up. The receiver gets what other streams brought for it.
    pub(super) fn begin(gateway: &Arc<super::super::Gateway>, id: &str) -> (UnderWay, mpsc::Receiver<Bytes>) {
        let (elsewhere, found) = mpsc::channel(1);
        let (sender, answer) = watch::channel(None);
        let mut known = gateway.calls.calls.lock().expect("no panic while the map is locked");
        known.by_id.insert(id.to_owned(), Entry { elsewhere, answer });
        (UnderWay { calls: gateway.clone(), id: id.to_owned(), answer: sender, answered: false }, found)
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
        let mut known = self.calls.calls.calls.lock().expect("no panic while the map is locked");
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
            self.calls.calls.calls.lock().expect("no panic while the map is locked").by_id.remove(&self.id);
        }
    }
}
