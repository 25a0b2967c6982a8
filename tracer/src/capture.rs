//! A trace being written to somewhere.
//!
//! The writer has a thread of its own, so a slow one disturbs nobody. If it is so slow that generations pile up, the trace
//! ends where it is, as a valid file.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use greenprof_runtime::heap;
use thiserror::Error;

use crate::{
    engine::{self, Block, Sink, SinkId, StartError, Stats},
    go::wire,
};

/// Bytes that may wait for a slow writer.
const MAX_WAITING: u64 = 64 << 20;

/// The settings of a trace.
#[derive(Clone, Debug)]
pub struct Builder {
    max_bytes: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self { max_bytes: u64::MAX }
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
    too_slow: std::sync::atomic::AtomicBool,
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
        if size > self.left {
            return false;
        }
        // Relaxed: an estimate is enough.
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
/// # Errors
/// See [`StartError`].
pub fn start<W: Write + Send + 'static>(writer: W) -> Result<Trace<W>, StartError> {
    Builder::default().start(writer)
}

impl Builder {
    /// The default settings: no bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the trace before it gets longer than so many bytes. It grows by whole generations, of a second or 8 MiB at the most.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
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
            let left = self.max_bytes.saturating_sub(wire::HEADER.len() as u64);
            let queue = Queue { blocks, shared: shared.clone(), left };
            let sink = engine::add(Box::new(queue))?;
            let shares = shared.clone();
            let thread = thread::Builder::new()
                .name("greenprof-writer".into())
                .spawn(move || write(writer, &inbox, &shares))
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

fn write<W: Write>(mut writer: W, inbox: &mpsc::Receiver<Arc<Block>>, shared: &Shared) -> (W, io::Result<()>) {
    let mut result = writer.write_all(wire::HEADER);
    for block in inbox {
        if result.is_err() {
            break; // the queue's end learns of it at the next generation
        }
        result = writer.write_all(&block.bytes);
        shared.waiting.fetch_sub(block.bytes.len() as u64, Ordering::Relaxed);
    }
    let result = result.and_then(|()| writer.flush());
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
