//! The flight recorder: the last seconds of the program, always at hand.
//!
//! As long as nobody asks for it, the engine collects what was recorded and does not read it. What was read, because of an earlier
//! dump or of a trace, is kept as generations. Every generation can be the first of a file, so any of them can be dropped from the front.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use greenprof_runtime::heap;

use crate::{
    capture::{Format, Output},
    engine::{self, Block, Bounds, Sink, SinkId, StartError, Stats},
};

/// The settings of a flight recorder.
#[derive(Clone, Debug)]
pub struct FlightBuilder {
    window: Duration,
    max_bytes: usize,
}

/// A flight recorder that runs. Dropping it stops the recording and forgets what was recorded.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
/// use greenprof_tracer::{Format, flight_recorder};
///
/// let recorder = flight_recorder().max_bytes(16 << 20).start()?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let (mut for_go, mut for_perfetto) = (Vec::new(), Vec::new());
/// assert!(recorder.dump(&mut for_go)?.events > 0);
/// recorder.dump_as(Format::Perfetto, &mut for_perfetto)?; // it has gone on meanwhile
/// assert!(!for_go.is_empty() && !for_perfetto.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the recording"]
pub struct FlightRecorder {
    sink: SinkId,
}

/// The generations that were read and are still new enough.
struct Kept {
    /// Oldest first.
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
    window: u64,
    max_bytes: usize,
    /// `bytes`, for the engine.
    told: Arc<AtomicUsize>,
}

impl Sink for Kept {
    fn take(&mut self, block: &Arc<Block>) -> bool {
        self.add(block.clone());
        true
    }

    fn forget(&mut self) {
        (self.blocks, self.bytes) = (VecDeque::new(), 0);
        self.tell();
    }

    fn kept(&self) -> Vec<Arc<Block>> {
        self.blocks.iter().cloned().collect()
    }
}

impl Kept {
    /// Adds the newest, and drops what is not needed for the window or exceeds the bound.
    fn add(&mut self, block: Arc<Block>) {
        let newest = block.end;
        self.bytes += block.bytes.len();
        self.blocks.push_back(block);
        while let [oldest, next, ..] = self.blocks.make_contiguous() {
            let covered = next.start + self.window <= newest;
            if !covered && self.bytes <= self.max_bytes {
                break;
            }
            self.bytes -= oldest.bytes.len();
            self.blocks.pop_front();
        }
        self.tell();
    }

    fn tell(&self) {
        // Relaxed: an estimate is enough.
        self.told.store(self.bytes, Ordering::Relaxed);
    }
}

impl Default for FlightBuilder {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), max_bytes: 64 << 20 }
    }
}

/// The default settings: the last ten seconds, 64 MiB at the most.
///
/// ```
/// use std::time::Duration;
///
/// let recorder = greenprof_tracer::flight_recorder().window(Duration::from_secs(5)).start()?;
/// // When something has gone wrong, what led to it is still there.
/// let mut file = Vec::new();
/// recorder.dump(&mut file)?;
/// assert!(file.starts_with(b"go 1.26 trace"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn flight_recorder() -> FlightBuilder {
    FlightBuilder::default()
}

impl FlightBuilder {
    /// How far it looks back at least, if the bound on bytes allows it; it keeps up to a second more.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The most memory that it uses for what it keeps: 16 bytes for most events, and about 5 for those that have been in a dump, or in a
    /// trace that was taken meanwhile. The newest 8 MiB are kept in any case.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Starts recording.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(self) -> Result<FlightRecorder, StartError> {
        heap::untracked(|| {
            let window = u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX);
            let (told, max_bytes) = (Arc::new(AtomicUsize::new(0)), self.max_bytes);
            let bounds = Bounds { window, max_bytes, kept: told.clone() };
            let kept = Kept { blocks: VecDeque::new(), bytes: 0, window, max_bytes, told };
            Ok(FlightRecorder { sink: engine::add(Box::new(kept), Some(bounds))? })
        })
    }
}

impl FlightRecorder {
    /// Writes what happened until now, as a trace. The recording goes on. Gives what was lost in the time that is written.
    ///
    /// To be called by whoever notices that something went wrong. A task should do it inside of
    /// [`task::blocking`](greenprof_runtime::task::blocking): it waits for another thread.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dump(&self, writer: impl Write) -> io::Result<Stats> {
        self.dump_as(Format::Go, writer)
    }

    /// The same in another format.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dump_as(&self, format: Format, mut writer: impl Write) -> io::Result<Stats> {
        let (blocks, mut output) = heap::untracked(|| (engine::cut(self.sink), Output::new(format, u64::MAX)));
        output.begin(&mut writer)?;
        let mut stats = Stats::default();
        for block in &blocks {
            output.add(&block.bytes, &mut writer)?;
            stats = stats.and(block.stats);
        }
        output.end(&mut writer)?;
        Ok(stats)
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        engine::remove(self.sink);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64},
        thread,
        time::{Duration, Instant},
    };

    use greenprof_runtime::{Runtime, sync::Chan, task, yield_now};

    use super::*;
    use crate::{program, reader::Summary};

    fn summary(file: &[u8]) -> Summary {
        Summary::read(file).expect("a valid trace")
    }

    /// Runs `work` beside tasks that are there all the time: two that hand each other a number, of which one spawns a third in each
    /// round, and one that waits. All have names. `work` can see how many rounds there were.
    fn beside_tasks(work: impl FnOnce(&AtomicU64) + Send + 'static) {
        let named =
            |name: &str, work: Box<dyn FnOnce() + Send>| task::Builder::new().name(name).spawn(work).expect("memory");
        Runtime::builder().workers(2).build().expect("a runtime").run(move || {
            let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let (there, back, never) = (Chan::<u64>::new(), Chan::<u64>::new(), Chan::<u64>::new());
            let (receive, answer, wait) = (there.clone(), back.clone(), never.clone());
            let (ended, count) = (stop.clone(), rounds.clone());
            let tasks = [
                named("pong", Box::new(move || receive.iter().for_each(|n| answer.send(n).expect("open")))),
                named("waits", Box::new(move || assert_eq!(wait.recv(), None))),
                named(
                    "ping",
                    Box::new(move || {
                        while !ended.load(Ordering::Relaxed) {
                            there.send(1).expect("open");
                            back.recv();
                            count.fetch_add(1, Ordering::Relaxed);
                            task::Builder::new()
                                .name("short")
                                .spawn(yield_now)
                                .expect("memory")
                                .join()
                                .expect("no panic");
                        }
                        there.close();
                    }),
                ),
            ];
            task::blocking(|| work(&rounds));
            stop.store(true, Ordering::Relaxed);
            never.close();
            tasks.into_iter().for_each(|task| task.join().expect("no panic"));
        });
    }

    /// Valid, and with the names of all tasks, those that are older than it among them.
    fn check(file: &[u8], stats: Stats) -> Summary {
        let summary = summary(file);
        let groups = summary.by_name();
        let tasks = |name: &str| groups.iter().find(|group| &*group.name == name).map_or(0, |group| group.tasks);
        assert_eq!(["ping", "pong", "waits"].map(tasks), [1, 1, 1], "{stats:?}");
        // In the first moments some threads record already, and some do not; and a busy machine may lose some.
        if stats.lost == 0 {
            assert_eq!(tasks("(created unseen)"), 0, "{stats:?}");
            assert!(stats.repaired * 50 <= stats.events, "{stats:?}");
        }
        summary
    }

    #[test]
    fn what_is_too_old_is_left_out_and_the_rest_is_whole() {
        let _alone = program::alone();
        let window = Duration::from_millis(300);
        let recorder = flight_recorder().window(window).start().expect("a recorder");
        let begin = Instant::now();
        beside_tasks(move |_| {
            let dump = || {
                let mut file = Vec::new();
                let stats = recorder.dump(&mut file).expect("written to memory");
                (Duration::from_nanos(check(&file, stats).duration()), stats)
            };
            thread::sleep(Duration::from_millis(2600));
            let old = begin.elapsed();
            let (first, stats) = dump();
            assert!(first >= window && first < old - window, "{first:?} of {old:?}: {stats:?}");
            // What was read for the dump is still there, and goes on.
            let (second, stats) = dump();
            assert!(second >= window, "{second:?}: {stats:?}");
            let trace = crate::start(Vec::new()).expect("a trace");
            thread::sleep(Duration::from_millis(30));
            let (file, stats) = trace.stop().expect("a whole trace");
            let traced = check(&file, stats);
            assert!(traced.duration() >= 29_000_000, "all since the call: {} ns, {stats:?}", traced.duration());
            dump();
            // Then it is too old in turn.
            thread::sleep(Duration::from_millis(2600));
            let (last, stats) = dump();
            assert!(last < begin.elapsed() - old, "{last:?}: {stats:?}");
        });
    }

    #[test]
    fn of_a_quiet_program_only_the_window_is_told() {
        let _alone = program::alone();
        let recorder = flight_recorder().window(Duration::ZERO).start().expect("a recorder");
        Runtime::builder().workers(1).build().expect("a runtime").run(move || {
            let never = Chan::<u64>::new();
            let wait = never.clone();
            let waits = task::Builder::new().name("waits").spawn(move || wait.recv()).expect("memory");
            let begin = Instant::now();
            task::blocking(|| {
                thread::sleep(Duration::from_millis(2600));
                let mut file = Vec::new();
                let stats = recorder.dump(&mut file).expect("written to memory");
                let (summary, old) = (summary(&file), begin.elapsed());
                assert!(summary.tasks().iter().any(|task| &*task.name == "waits"), "{stats:?}");
                assert!(
                    Duration::from_nanos(summary.duration()) + Duration::from_secs(1) < old,
                    "{}",
                    summary.duration()
                );
            });
            never.close();
            waits.join().expect("no panic");
        });
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let _alone = program::alone();
        // Nothing is too little: a generation is kept in any case.
        let recorder = flight_recorder().max_bytes(0).start().expect("a recorder");
        beside_tasks(move |rounds| {
            const KEPT: u64 = (8 << 20) / 16;
            while rounds.load(Ordering::Relaxed) < KEPT / 2 {
                thread::sleep(Duration::from_millis(10));
            }
            let mut file = Vec::new();
            let stats = recorder.dump(&mut file).expect("written to memory");
            let summary = check(&file, stats);
            let short = summary.by_name().iter().find(|group| &*group.name == "short").map_or(0, |group| group.tasks);
            assert!(summary.totals().events() < KEPT + KEPT / 2 && short < KEPT / 4, "{short} {stats:?}");
            assert!(file.len() < 8 << 20, "{} bytes", file.len());
        });
    }

    fn block(start: u64, end: u64, size: usize) -> Arc<Block> {
        Arc::new(Block { bytes: vec![0; size], start, end, stats: Stats::default() })
    }

    #[test]
    fn the_window_is_covered_and_the_bound_is_kept() {
        let mut kept = Kept { blocks: VecDeque::new(), bytes: 0, window: 25, max_bytes: 1000, told: Arc::default() };
        for i in 0..10 {
            kept.add(block(i * 10, i * 10 + 10, 10));
        }
        let starts: Vec<_> = kept.blocks.iter().map(|block| block.start).collect();
        assert_eq!(starts, [70, 80, 90], "30 of the last 25");
        kept.add(block(100, 110, 985));
        assert_eq!(kept.blocks.len(), 2);
        kept.add(block(110, 120, 5000));
        assert_eq!((kept.blocks.len(), kept.bytes), (1, 5000), "the newest is kept whatever its size");
    }
}
