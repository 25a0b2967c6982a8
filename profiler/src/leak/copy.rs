//! Looking at a copy of the process: threads are stopped only while the copy is made.
//!
//! What is leaked in the copy is leaked in the process, for nobody can wake it there any more either. The copy hands its results over
//! bit by bit, through memory that both share: it has the same program at the same addresses, so what points to statics
//! and to the runtime's own memory, which is never given back, means the same here.
//!
//! Where the copy is not the process, nothing is reported: memory that both share may have changed since the stop, memory
//! that children do not get is missing. Then, as after a failure, the look is repeated in the stopped process.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use greenprof_runtime::{
    heap,
    sync::Primitive,
    task::TaskId,
    world::{
        self,
        stop::{Ended, Fork, Stopped, ThreadState},
    },
};

use super::{
    Options,
    caller::Caller,
    detect::{Found, Looked, On, Tables, look},
    report::{DetectError, Incomplete, Mode, NotCopied},
    why::Link,
};

/// How long the copy may take. It runs beside the program, so there is no hurry.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a look at a copy gave nothing.
pub(super) enum Failure {
    /// The stopped process can be looked at instead.
    Copy(NotCopied),
    Detect(DetectError),
}

impl From<DetectError> for Failure {
    fn from(error: DetectError) -> Self {
        Self::Detect(error)
    }
}

/// What was done in the stopped world.
enum Met {
    Looked(Looked),
    Copied(io::Result<Fork>),
}

/// Stops the world to copy the process, and looks at the copy. If the stop is not complete, it is the process that is looked at.
pub(super) fn look_at_copy(
    options: &Options,
    tables: &mut Tables,
    caller: Caller,
    explain: Option<TaskId>,
) -> Result<(Looked, Mode), Failure> {
    let room = Room::new(tables).map_err(DetectError::Memory)?;
    let before = faults();
    let stop = world::stop(options.patience, |world| {
        if !world.complete() {
            return Met::Looked(look(world, tables, caller, explain));
        }
        Met::Copied(world.fork(|world| {
            let looked = look(world, tables, caller, explain);
            room.put(world, tables, looked);
        }))
    });
    let stop = stop.map_err(DetectError::from)?;
    let (mut looked, mode) = match stop.value {
        Met::Looked(mut looked) => {
            looked.check(tables)?;
            (looked, Mode::Stop)
        }
        Met::Copied(copy) => {
            let copy = copy.map_err(|error| Failure::Copy(NotCopied::Refused(error.raw_os_error().unwrap_or(0))))?;
            // At once: modules that come and go while the copy is looked at do not matter.
            let changed = tables.modules.have_changed().map_err(DetectError::Memory)?;
            let cloning = copy.cloning();
            let ended = copy.wait(LIMIT);
            let faults = faults() - before;
            let mut looked = room.take(ended, tables).map_err(Failure::Copy)?;
            if changed {
                looked.incomplete = looked.incomplete.or(Some(Incomplete::Busy));
            }
            (looked.cost.cloning, looked.cost.faults) = (cloning, faults);
            (looked, Mode::Fork)
        }
    };
    (looked.cost.stopping, looked.cost.stopped) = (stop.pause.stopping, stop.pause.stopped);
    Ok((looked, mode))
}

/// Memory that the process shares with its copy.
struct Room {
    start: *mut u8,
    bytes: usize,
}

/// At the start of it. Zeroes: nothing was found yet.
#[repr(C)]
struct Header {
    /// Whether all the rest has been written.
    done: AtomicU32,
    /// Whether the copy is what the process was.
    same: bool,
    lengths: [usize; 4],
    looked: mem::MaybeUninit<Looked>,
}

/// A list's place, from the start of the room.
fn place<T>(end: &mut usize, most: usize) -> usize {
    let start = end.next_multiple_of(align_of::<T>());
    *end = start + most * size_of::<T>();
    start
}

/// Where each of the lists lies, and the end of the last.
fn places(tables: &Tables) -> ([usize; 4], usize) {
    let mut end = size_of::<Header>();
    let places = [
        place::<Found>(&mut end, tables.found.capacity()),
        place::<On>(&mut end, tables.on.capacity()),
        place::<(u32, TaskId)>(&mut end, tables.held.capacity()),
        place::<Link>(&mut end, tables.links.capacity()),
    ];
    (places, end)
}

impl Room {
    fn new(tables: &Tables) -> io::Result<Self> {
        let (_, bytes) = places(tables);
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), bytes })
    }

    fn header(&self) -> *mut Header {
        self.start.cast()
    }

    /// In the copy: writes what was found. Neither allocates nor panics.
    fn put(&self, world: &Stopped<'_>, tables: &Tables, looked: Looked) {
        let (at, _) = places(tables);
        let same = looked.unreadable == 0 && is_same(world, tables, self);
        // SAFETY: the mapping has room for all that the lists can hold, and nobody looks before `done`.
        unsafe {
            let header = self.header();
            (*header).same = same;
            (*header).looked.write(looked);
            (*header).lengths = [
                self.put_list(at[0], &tables.found),
                self.put_list(at[1], &tables.on),
                self.put_list(at[2], &tables.held),
                self.put_list(at[3], &tables.links),
            ];
            // Release: pairs with the Acquire in `take`.
            (*header).done.store(1, Ordering::Release);
        }
    }

    /// # Safety
    /// There is room at the place for all that the list has.
    unsafe fn put_list<T: Copy>(&self, at: usize, list: &[T]) -> usize {
        // SAFETY: the caller's promise; the list is not in the mapping.
        unsafe { ptr::copy_nonoverlapping(list.as_ptr(), self.start.add(at).cast(), list.len()) };
        list.len()
    }

    /// In the process, when the copy has ended: takes what it has found.
    fn take(&self, ended: Ended, tables: &mut Tables) -> Result<Looked, NotCopied> {
        if ended == Ended::Killed {
            return Err(NotCopied::Slow);
        }
        let (at, _) = places(tables);
        // SAFETY: what `put` has written, all of it if `done` is set; the copy has ended, so nobody writes.
        unsafe {
            let header = self.header();
            // Acquire: pairs with the Release in `put`.
            if (*header).done.load(Ordering::Acquire) == 0 {
                return Err(NotCopied::Died);
            }
            if !(*header).same {
                return Err(NotCopied::Differs);
            }
            let lengths = (*header).lengths;
            self.take_list(at[0], lengths[0], &mut tables.found);
            self.take_list(at[1], lengths[1], &mut tables.on);
            self.take_list(at[2], lengths[2], &mut tables.held);
            self.take_list(at[3], lengths[3], &mut tables.links);
            Ok((*header).looked.assume_init_read())
        }
    }

    /// # Safety
    /// So many values have been put there.
    unsafe fn take_list<T: Copy>(&self, at: usize, length: usize, list: &mut Vec<T>) {
        // SAFETY: the caller's promise, and a mapping is aligned for any type.
        list.extend_from_slice(unsafe { std::slice::from_raw_parts(self.start.add(at).cast(), length) });
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: our mapping, to which nobody has a reference.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Whether all that was looked at is as it was when the process was stopped.
fn is_same(world: &Stopped<'_>, tables: &Tables, room: &Room) -> bool {
    let own = room.start as usize;
    let mut same = true;
    let known = world.differs(|other| {
        if (other.start..other.end).contains(&own) {
            return; // which the kernel joins with nothing: neighbours of another origin differ
        }
        let meets = |start: usize, end: usize| start < other.end && other.start < end;
        let (heap, cores) = (heap::extent(), Primitive::region());
        let looked_at = meets(heap.start, heap.end)
            || meets(cores.start, cores.end)
            || world.slabs().any(|slab| meets(slab.start, slab.end))
            || tables.modules.segments().iter().any(|(start, end)| meets(*start, *end));
        let of_thread = world.threads().filter(|thread| thread.state() == ThreadState::Stopped).any(|thread| {
            let registers = thread.registers().as_ptr() as usize;
            let places = [thread.sp(), thread.thread_pointer(), registers];
            places.iter().any(|place| other.contains(place))
                || thread.stacks().any(|s| meets(s.range.start, s.range.end))
        });
        same &= !looked_at && !of_thread;
    });
    known && same
}

/// Page faults of the process so far that needed no device.
fn faults() -> u64 {
    // SAFETY: all-zero is a valid `rusage`, and the kernel writes one.
    unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        u64::try_from(usage.ru_minflt).unwrap_or(0)
    }
}
