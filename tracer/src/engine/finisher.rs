//! The thread that gives generations their tables, and hands them to the sinks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use greenprof_runtime::{heap, hooks};

use super::{Block, Sink, SinkId, Stats};
use crate::go::{
    generation::Ended,
    tables::{Finisher, Sample},
};

/// Bytes of generations that have not been finished.
static BACKLOG: AtomicU64 = AtomicU64::new(0);

pub(super) enum Job {
    Generation(Box<Unfinished>),
    Add(SinkId, Box<dyn Sink>),
    Remove(SinkId, mpsc::Sender<()>),
    /// Something is left out between the generations before this and those after it.
    Forget,
    /// Gives what a sink keeps. From here, for what comes next may have it forget that.
    Tell(SinkId, mpsc::Sender<Vec<Arc<Block>>>),
}

pub(super) struct Unfinished {
    ended: Ended,
    samples: Vec<Sample>,
    end: u64,
    stats: Stats,
}

/// Bytes of generations that wait.
pub(super) fn backlog() -> u64 {
    // Relaxed: an estimate is enough.
    BACKLOG.load(Ordering::Relaxed)
}

pub(super) fn submit(jobs: &mpsc::Sender<Job>, ended: Ended, samples: Vec<Sample>, end: u64, stats: Stats) {
    BACKLOG.fetch_add(ended.body.len() as u64, Ordering::Relaxed);
    // The finisher ends after the engine's thread has hung up.
    let _ = jobs.send(Job::Generation(Box::new(Unfinished { ended, samples, end, stats })));
}

pub(super) fn start() -> (JoinHandle<()>, mpsc::Sender<Job>) {
    let (jobs, inbox) = mpsc::channel();
    super::samples::want(true);
    let thread = thread::Builder::new()
        .name("greenprof-tables".into())
        .spawn(move || heap::untracked(|| work(&inbox)))
        .expect("a second thread where there was a first");
    (thread, jobs)
}

fn work(inbox: &mpsc::Receiver<Job>) {
    hooks::take_short_slices();
    let mut finisher = Finisher::new();
    let mut sinks: Vec<(SinkId, Box<dyn Sink>)> = Vec::new();
    for job in inbox {
        match job {
            Job::Generation(unfinished) => {
                let Unfinished { ended, samples, end, stats } = *unfinished;
                let (size, start) = (ended.body.len() as u64, ended.start);
                let block = Arc::new(Block { bytes: finisher.finish(ended, &samples), start, end, stats });
                sinks.retain_mut(|(_, sink)| sink.take(&block));
                BACKLOG.fetch_sub(size, Ordering::Relaxed);
            }
            Job::Add(id, sink) => sinks.push((id, sink)),
            Job::Remove(id, done) => {
                sinks.retain(|(sink, _)| *sink != id);
                let _ = done.send(());
            }
            Job::Forget => sinks.iter_mut().for_each(|(_, sink)| sink.forget()),
            Job::Tell(id, done) => {
                let kept = sinks.iter().find(|(sink, _)| *sink == id).map(|(_, sink)| sink.kept());
                let _ = done.send(kept.unwrap_or_default());
            }
        }
    }
    super::samples::want(false);
}
