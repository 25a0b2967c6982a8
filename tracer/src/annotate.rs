//! What the program says of itself in a trace: user tasks, regions, and messages, as in Go's `runtime/trace`.
//!
//! A *user task* is a piece of work that may go through several tasks of the runtime and through threads, for example a request.
//! A *region* is a stretch of time in one task of the runtime. Each may belong to a user task.
//!
//! While no trace is taken each of these costs a load and a branch.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::task;

use crate::{
    engine,
    record::{
        clock,
        kind::{self, head, subject},
        threads::writer,
    },
};

/// The most bytes of a name or a message; the rest is cut off.
const MAX_TEXT: usize = crate::go::wire::MAX_STRING;

/// 0 stands for no user task.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A user task. It ends when this is dropped, wherever that is.
///
/// ```
/// let order = greenprof_tracer::Task::new("order");
/// {
///     let _decoding = order.region("decode");
///     order.log("tenant", "acme");
/// }
/// // In the viewer, `order` has the time from its beginning to here, on whatever tasks it was worked.
/// drop(order);
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the user task"]
pub struct Task {
    id: u64,
    /// Whether its beginning is in a trace.
    recorded: bool,
}

/// A stretch of time in a task. It ends when this is dropped.
///
/// Regions of a task are nested. One that is dropped before a region in it ends that, too; one that is dropped in
/// another task does not end in the trace.
///
/// ```
/// use greenprof_runtime::Runtime;
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| {
///     let _pricing = greenprof_tracer::region("price");
///     (1..=1000_u64).sum::<u64>()
/// });
/// let (file, _) = trace.stop()?;
/// let mut regions = Vec::new();
/// greenprof_tracer::reader::read(&file[..], |event| {
///     if let greenprof_tracer::reader::Kind::Region { name, begins, .. } = &event.kind {
///         regions.push((name.to_string(), *begins));
///     }
/// })?;
/// assert_eq!(regions, [("price".to_owned(), true), ("price".to_owned(), false)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the region"]
pub struct Region {
    user: u64,
    /// Nothing if its beginning is in no trace.
    name: Option<String>,
    /// The region is one of this task, and means nothing to another.
    task: u64,
}

/// Records what is written by `write`, given the number of the calling task and the caller's stack. Whether it was.
#[inline(never)]
fn record(write: impl FnOnce(&crate::record::writer::Writer, u64, u32)) {
    if let Some(writer) = writer() {
        let stack = writer.own_stack();
        write(writer, task::current_id().map_or(0, |id| id.get()), stack);
    }
}

impl Task {
    /// Begins a user task that belongs to no other.
    pub fn new(name: &str) -> Self {
        Self::begin(name, 0)
    }

    /// Begins a user task that is a part of this one.
    ///
    /// ```
    /// let order = greenprof_tracer::Task::new("order");
    /// let storing = order.subtask("store");
    /// assert_ne!(storing.id(), order.id());
    /// ```
    pub fn subtask(&self, name: &str) -> Self {
        Self::begin(name, self.id)
    }

    fn begin(name: &str, parent: u64) -> Self {
        // Relaxed: a number that nobody else has.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let recorded = engine::is_running();
        if recorded {
            let name = cut(name);
            record(|writer, task, stack| {
                let words =
                    [head(kind::TASK_BEGIN, clock::ticks()), subject(task, stack), id, parent, name.len() as u64];
                writer.record_text(words, &[name]);
            });
        }
        Self { id, recorded }
    }

    /// Begins a region of the calling task that belongs to this user task.
    pub fn region(&self, name: &str) -> Region {
        Region::begin(self.id, name)
    }

    /// Writes a message that belongs to this user task.
    pub fn log(&self, category: &str, message: &str) {
        log_for(self.id, category, message);
    }

    /// Its number in traces.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.recorded && engine::is_running() {
            record(|writer, task, stack| {
                writer.record([head(kind::TASK_END, clock::ticks()), subject(task, stack), self.id]);
            });
        }
    }
}

/// A search for leaked tasks. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the search"]
pub struct Search(());

/// A search for leaked tasks begins, which traces show as Go's tools know it: as a garbage collection. For detectors.
///
/// ```
/// let search = greenprof_tracer::search();
/// // What looks for them.
/// drop(search);
/// ```
pub fn search() -> Search {
    Search::record(kind::SEARCH_BEGIN);
    Search(())
}

impl Search {
    fn record(kind: u8) {
        if engine::is_running() {
            record(|writer, task, stack| writer.record([head(kind, clock::ticks()), subject(task, stack)]));
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        Self::record(kind::SEARCH_END);
    }
}

/// Begins a region of the calling task. On a thread that runs no task it is not recorded.
///
/// ```
/// let sorted = {
///     let _region = greenprof_tracer::region("sort");
///     let mut numbers = vec![3, 1, 2];
///     numbers.sort();
///     numbers
/// }; // it ends here
/// assert_eq!(sorted, [1, 2, 3]);
/// ```
pub fn region(name: &str) -> Region {
    Region::begin(0, name)
}

/// Writes a message of the calling task.
///
/// ```
/// use greenprof_tracer::reader::{self, Kind};
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// greenprof_tracer::log("cache", "miss");
/// let (file, _) = trace.stop()?;
/// let mut messages = Vec::new();
/// reader::read(&file[..], |event| {
///     if let Kind::Log { category, message, .. } = &event.kind {
///         messages.push(format!("{category}: {message}"));
///     }
/// })?;
/// assert_eq!(messages, ["cache: miss"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn log(category: &str, message: &str) {
    log_for(0, category, message);
}

impl Region {
    fn begin(user: u64, name: &str) -> Self {
        let task = if engine::is_running() { task::current_id().map_or(0, |id| id.get()) } else { 0 };
        if task == 0 {
            return Self { user, name: None, task };
        }
        let name = cut(name).to_owned();
        Self::record(kind::REGION_BEGIN, user, &name);
        Self { user, name: Some(name), task }
    }

    fn record(kind: u8, user: u64, name: &str) {
        record(|writer, task, stack| {
            let words = [head(kind, clock::ticks()), subject(task, stack), user, name.len() as u64];
            writer.record_text(words, &[name]);
        });
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && engine::is_running()
            && task::current_id().is_some_and(|id| id.get() == self.task)
        {
            Self::record(kind::REGION_END, self.user, name);
        }
    }
}

fn log_for(user: u64, category: &str, message: &str) {
    if engine::is_running() {
        let (category, message) = (cut(category), cut(message));
        record(|writer, task, stack| {
            let lengths = (category.len() as u64) << 32 | message.len() as u64;
            let words = [head(kind::LOG, clock::ticks()), subject(task, stack), user, lengths];
            writer.record_text(words, &[category, message]);
        });
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
