//! The flight recorder: the last seconds of the program, always at hand.
//!
//! It keeps the newest generations. Every generation can be the first of a file, so any of them can be dropped from the front.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use greenprof_runtime::heap;
use parking_lot::Mutex;

use crate::{
    capture::{Format, Output},
    engine::{self, Block, Sink, SinkId, StartError, Stats},
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
    kept: Arc<Mutex<Kept>>,
}

/// Guards the generations that are kept, oldest first.
#[derive(Debug)]
struct Kept {
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
    window: u64,
    max_bytes: usize,
}

struct Keeper(Arc<Mutex<Kept>>);

impl Sink for Keeper {
    fn take(&mut self, block: &Arc<Block>) -> bool {
        self.0.lock().add(block.clone());
        true
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
    /// How far it looks back at least, if the bound on bytes allows it. It keeps whole generations, of about a second.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The most memory that it uses for what it keeps. The newest generation is kept in any case, which has up to 8 MiB.
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
            let kept = Kept { blocks: VecDeque::new(), bytes: 0, window, max_bytes: self.max_bytes };
            let kept = Arc::new(Mutex::new(kept));
            let sink = engine::add(Box::new(Keeper(kept.clone())))?;
            Ok(FlightRecorder { sink, kept })
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
        engine::cut();
        let (blocks, mut output) = heap::untracked(|| {
            let blocks: Vec<_> = self.kept.lock().blocks.iter().cloned().collect();
            (blocks, Output::new(format, u64::MAX))
        });
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
    use super::*;

    fn block(start: u64, end: u64, size: usize) -> Arc<Block> {
        Arc::new(Block { bytes: vec![0; size], start, end, stats: Stats::default() })
    }

    #[test]
    fn the_window_is_covered_and_the_bound_is_kept() {
        let mut kept = Kept { blocks: VecDeque::new(), bytes: 0, window: 25, max_bytes: 1000 };
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
