//! What the API was asked to do, and how often: one job for each payment, or each request of a channel.

use super::{Ledger, State};
use crate::{
    api::End,
    world::{Life, World},
};

#[derive(Debug, Default)]
pub(super) struct Job {
    pub name: String,
    pub runs: Vec<String>,
    pub progress: Progress,
    /// The store failed whoever ran it last.
    pub trouble: bool,
    /// The API gave an answer that is paid for, or began one.
    pub answered: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    #[default]
    New,
    Running(u64),
    /// Nobody waited for the end, or it failed, or is not paid for.
    Void,
    /// The API answered; the gateway knows.
    Answered(u64),
    /// Recorded, and the answer is not kept: it may be asked for again.
    Unkept,
    /// Recorded: never again.
    Closed,
}

impl State {
    pub(super) fn job(&mut self, key: &str) -> &mut Job {
        let number = self.jobs.len() + 1;
        self.jobs.entry(key.to_owned()).or_insert_with(|| Job { name: format!("job {number}"), ..Job::default() })
    }
}

impl Ledger {
    /// The API is asked; which run of the job it is.
    pub async fn run_begins(&self, world: &World, life: &Life, key: &str, target: &str) -> usize {
        let exact = key.matches('-').count() == 1;
        let owed = if exact { self.may_run_payment(world, key, target) } else { self.may_run_request(world, life, key, target).await };
        if let Err(why) = owed {
            world.trace.wrong(format!("{life} forwards {key} {target}: {why}"));
        }
        let mut state = self.state();
        let dead = |state: &State, life: u64| state.dead.contains(&life);
        let (progress, trouble) = {
            let job = state.job(key);
            (job.progress, job.trouble)
        };
        let again = match progress {
            Progress::New | Progress::Void | Progress::Unkept => None,
            Progress::Running(other) if !dead(&state, other) => Some("it is being forwarded already"),
            // A channel is charged for what it got, or may ask again; a payment is used up.
            Progress::Answered(other) if exact && !dead(&state, other) && !trouble => Some("it was answered already"),
            Progress::Running(_) | Progress::Answered(_) => None,
            Progress::Closed => Some("it was delivered already"),
        };
        if let Some(why) = again {
            world.trace.wrong(format!("{life} forwards {key} {target} again: {why}"));
        }
        let job = state.job(key);
        (job.progress, job.trouble) = (Progress::Running(life.number), false);
        let number = job.runs.len() + 1;
        let words = format!("{} run {number} of {target}", job.name);
        job.runs.push(words);
        if number > 1 {
            world.trace.reached("api asked again");
        }
        drop(state);
        world.trace.note(format!("{life}: api {target} run {number}"));
        number
    }

    pub fn words(&self, key: &str, number: usize) -> String {
        self.state().job(key).runs[number - 1].clone()
    }

    pub fn run_ended(&self, world: &World, key: &str, number: usize, how: End) {
        let mut state = self.state();
        let job = state.job(key);
        // Only the last run says where the job is.
        if number == job.runs.len()
            && let Progress::Running(life) = job.progress
        {
            job.progress = if how == End::Answered { Progress::Answered(life) } else { Progress::Void };
        }
        job.answered |= how == End::Answered;
        drop(state);
        self.request_ended(key);
        world.trace.reached(format!("api run {how:?}"));
    }

    /// A verb about this job failed.
    pub fn trouble(&self, key: &str) {
        if let Some(job) = self.state().jobs.get_mut(key) {
            job.trouble = true;
        }
    }

    /// Whether a body is, or begins like, one that the API gave for this job.
    pub(super) fn is_of_job(&self, key: &str, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        let state = self.state();
        state.jobs.get(key).is_some_and(|job| job.runs.iter().any(|words| text.starts_with(words) || words.starts_with(&*text)))
    }
}
