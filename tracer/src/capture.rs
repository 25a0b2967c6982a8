//! A trace being written to somewhere.
//!
//! The writer has a thread of its own, so a slow one disturbs nobody. If it is so slow that generations pile up, the trace
//! ends where it is, as a valid file.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use greenprof_runtime::{heap, hooks};
use thiserror::Error;

use crate::{
    engine::{self, Block, Sink, SinkId, StartError, Stats},
    go::wire,
    perfetto::Converter,
};

/// Bytes that may wait for a slow writer.
const MAX_WAITING: u64 = 64 << 20;

/// Which program a trace is for.
///
/// ```
/// use greenprof_tracer::{Builder, Format};
///
/// let trace = Builder::new().format(Format::Perfetto).start(Vec::new())?;
/// let (file, _) = trace.stop()?;
/// assert!(!file.starts_with(b"go "), "for ui.perfetto.dev, not for go tool trace");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `go tool trace`, and what else reads Go's format, [`reader`](crate::reader) among them.
    #[default]
    Go,
    /// Perfetto's viewer and trace processor. The same events take ten to twenty times the space.
    Perfetto,
}

/// The settings of a trace.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
///
/// let bound = 1 << 20;
/// let trace = greenprof_tracer::Builder::new().max_bytes(bound).start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let (file, stats) = trace.stop()?;
/// assert!(file.len() as u64 <= bound && stats.events > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    max_bytes: u64,
    format: Format,
}

impl Default for Builder {
    fn default() -> Self {
        Self { max_bytes: u64::MAX, format: Format::Go }
    }
}

/// Why a trace is not whole. What was written is a valid trace in any case.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StopError {
    /// The writer has failed.
    #[error("the trace could not be written: {0}")]
    Write(#[from] io::Error),
    /// The writer was slower than the program for too long.
    #[error("the trace ends early: its writer was {} MiB behind", MAX_WAITING >> 20)]
    TooSlow,
    /// The writer has panicked.
    #[error("the writer of the trace has panicked")]
    Panicked,
}

/// A trace that is being written. Dropping it stops it as well, without a word about errors.
#[derive(Debug)]
#[must_use = "dropping it stops the trace"]
pub struct Trace<W: Write + Send + 'static> {
    sink: SinkId,
    writer: Option<JoinHandle<(W, io::Result<()>)>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that wait for the writer.
    waiting: AtomicU64,
    too_slow: AtomicBool,
    /// Whether the writer has ended, because nothing more fits or because it has failed.
    is_done: AtomicBool,
    stats: parking_lot::Mutex<Stats>,
}

/// Puts generations into the writer's queue.
struct Queue {
    blocks: mpsc::Sender<Arc<Block>>,
    shared: Arc<Shared>,
    left: u64,
}

impl Sink for Queue {
    fn take(&mut self, block: &Arc<Block>) -> bool {
        let size = block.bytes.len() as u64;
        // Relaxed, here and below: an estimate is enough.
        if size > self.left || self.shared.is_done.load(Ordering::Relaxed) {
            return false;
        }
        if self.shared.waiting.fetch_add(size, Ordering::Relaxed) > MAX_WAITING {
            self.shared.too_slow.store(true, Ordering::Relaxed);
            return false;
        }
        self.left -= size;
        let mut stats = self.shared.stats.lock();
        *stats = stats.and(block.stats);
        self.blocks.send(block.clone()).is_ok()
    }
}

/// Starts a trace of all runtimes of the process, with the default settings. See [`Builder::start`].
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
/// use greenprof_tracer::reader::Summary;
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let (file, stats) = trace.stop()?;
/// assert_eq!(stats.lost, 0);
/// assert!(Summary::read(&file[..])?.tasks().len() >= 2, "the main task, and the spawned one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`StartError`].
pub fn start<W: Write + Send + 'static>(writer: W) -> Result<Trace<W>, StartError> {
    Builder::default().start(writer)
}

impl Builder {
    /// The default settings: no bound, in Go's format.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the trace before it gets longer than so many bytes. In Go's format it grows by whole generations, of a second or
    /// 8 MiB at the most; in Perfetto's by single events, and ends within half a MiB of the bound.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Writes it for another program. What is recorded, and what that costs, is the same; the conversion is done on the writer's thread.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Starts a trace. Returns, after some milliseconds, when all that happens is recorded. Any number of traces can be taken at the
    /// same time; they share the recording.
    ///
    /// The writer is written to on a thread of its own; a writer that blocks delays nobody, but a trace that it cannot
    /// keep up with ends early.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start<W: Write + Send + 'static>(self, writer: W) -> Result<Trace<W>, StartError> {
        heap::untracked(|| {
            let (blocks, inbox) = mpsc::channel();
            let shared = Arc::new(Shared::default());
            let left = match self.format {
                Format::Go => self.max_bytes.saturating_sub(wire::HEADER.len() as u64),
                Format::Perfetto => u64::MAX, // the conversion keeps the bound
            };
            let output = Output::new(self.format, self.max_bytes);
            let queue = Queue { blocks, shared: shared.clone(), left };
            let sink = engine::add(Box::new(queue), None)?;
            let shares = shared.clone();
            let thread = thread::Builder::new()
                .name("greenprof-writer".into())
                .spawn(move || write(writer, output, &inbox, &shares))
                .map_err(|error| StartError::Thread(Arc::new(error)));
            match thread {
                Ok(thread) => Ok(Trace { sink, writer: Some(thread), shared }),
                Err(error) => {
                    engine::remove(sink);
                    Err(error)
                }
            }
        })
    }
}

/// How generations are written.
pub(crate) enum Output {
    Go,
    Perfetto(Box<Converter>),
}

impl Output {
    pub(crate) fn new(format: Format, max_bytes: u64) -> Self {
        match format {
            Format::Go => Self::Go,
            Format::Perfetto => Self::Perfetto(Box::new(Converter::of_this_process(max_bytes))),
        }
    }

    /// What a file begins with.
    pub(crate) fn begin(&self, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Go => writer.write_all(wire::HEADER),
            Self::Perfetto(_) => Ok(()),
        }
    }

    /// Adds a generation. Whether more would fit.
    pub(crate) fn add(&mut self, generation: &[u8], writer: &mut impl Write) -> io::Result<bool> {
        match self {
            Self::Go => writer.write_all(generation).map(|()| true),
            Self::Perfetto(converter) => converter.add(generation, writer),
        }
    }

    pub(crate) fn end(self, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Go => writer.flush(),
            Self::Perfetto(converter) => converter.finish(writer),
        }
    }
}

fn write<W: Write>(
    mut writer: W,
    mut output: Output,
    inbox: &mpsc::Receiver<Arc<Block>>,
    shared: &Shared,
) -> (W, io::Result<()>) {
    hooks::take_short_slices();
    let mut result = output.begin(&mut writer);
    for block in inbox {
        let more = result.and_then(|()| output.add(&block.bytes, &mut writer));
        shared.waiting.fetch_sub(block.bytes.len() as u64, Ordering::Relaxed);
        let is_done = !matches!(more, Ok(true));
        result = more.map(|_| ());
        if is_done {
            shared.is_done.store(true, Ordering::Relaxed);
            break; // the queue's end learns of it at the next generation
        }
    }
    let result = result.and_then(|()| output.end(&mut writer));
    (writer, result)
}

impl<W: Write + Send> Trace<W> {
    /// Ends the trace, and gives the writer back when all is written, with what was lost.
    ///
    /// # Errors
    /// See [`StopError`].
    pub fn stop(mut self) -> Result<(W, Stats), StopError> {
        engine::remove(self.sink);
        let thread = self.writer.take().expect("only stop and drop take it");
        let (writer, result) = thread.join().map_err(|_| StopError::Panicked)?;
        result?;
        if self.shared.too_slow.load(Ordering::Relaxed) {
            return Err(StopError::TooSlow);
        }
        let stats = *self.shared.stats.lock();
        Ok((writer, stats))
    }
}

impl<W: Write + Send> Drop for Trace<W> {
    fn drop(&mut self) {
        if self.writer.is_some() {
            engine::remove(self.sink);
        }
    }
}
