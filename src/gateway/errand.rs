//! Work that somebody waits for and that has to end, whether or not they still wait: a request that money was spent on.
//!
//! While its caller waits, the caller's own task runs it: nothing crosses from one task to another. A caller who leaves, or who is
//! answered before the work is over, leaves it to a task of its own. A panic in it is its own: the caller hears that there is no answer.
//! Used for what holds the lease of a channel.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{runtime::Handle, sync::oneshot};

/// Answers with what the work said; `None` when it ended without a word.
#[must_use = "it begins when it is awaited, or dropped"]
pub(super) struct Errand<T> {
    /// `None` once it is over.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answer: oneshot::Receiver<T>,
    runtime: Handle,
}

impl<T> Errand<T> {
    /// `begin` is told where to answer. From within a runtime, on which the rest of it runs when its caller leaves.
    pub fn new<W>(begin: impl FnOnce(oneshot::Sender<T>) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        Self { work: Some(Box::pin(begin(reply))), answer, runtime: Handle::current() }
    }
}

impl<T> Future for Errand<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let errand = self.get_mut();
        if let Some(mut work) = errand.work.take() {
            // What panicked is dropped, and its answer with it. The panic was reported where it happened.
            if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                errand.work = Some(work);
            }
        }
        Pin::new(&mut errand.answer).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Errand<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            drop(self.runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    /// Says "first", waits to be let go, and then says that it is over.
    fn errand(speaks: bool) -> (Errand<&'static str>, Arc<Notify>, oneshot::Receiver<&'static str>) {
        let (go, (over, ended)) = (Arc::new(Notify::new()), oneshot::channel());
        let gate = go.clone();
        let errand = Errand::new(|reply| async move {
            let mut reply = Some(reply);
            if speaks {
                reply.take().unwrap().send("first").unwrap();
            }
            gate.notified().await;
            if let Some(reply) = reply {
                // Whoever left hears nothing.
                let _ = reply.send("last");
            }
            over.send("over").unwrap();
        });
        (errand, go, ended)
    }

    #[tokio::test]
    async fn its_caller_runs_it_to_its_end_and_has_its_answer() {
        let (errand, go, mut ended) = errand(false);
        go.notify_one();
        assert_eq!(errand.await, Some("last"));
        // Without another turn of the runtime: no task was needed.
        assert_eq!(ended.try_recv(), Ok("over"));
    }

    #[tokio::test]
    async fn it_goes_on_when_its_caller_was_answered_before_its_end() {
        let (errand, go, ended) = errand(true);
        assert_eq!(errand.await, Some("first"));
        go.notify_one();
        assert_eq!(ended.await, Ok("over"));
    }

    #[tokio::test]
    async fn it_goes_on_when_its_caller_leaves_in_its_middle() {
        let (mut errand, go, ended) = errand(false);
        assert!(futures::poll!(&mut errand).is_pending());
        drop(errand);
        go.notify_one();
        assert_eq!(ended.await, Ok("over"));
    }

    #[tokio::test]
    async fn it_is_done_for_a_caller_who_never_waited() {
        let (errand, go, ended) = errand(false);
        drop(errand);
        go.notify_one();
        assert_eq!(ended.await, Ok("over"));
    }

    #[tokio::test]
    async fn a_panic_in_it_is_no_answer_and_no_panic_of_its_caller() {
        let errand = Errand::<&str>::new(|_reply| async { panic!("on purpose") });
        assert_eq!(errand.await, None);
    }
}
