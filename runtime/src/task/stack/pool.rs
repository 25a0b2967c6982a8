//! Free stacks: queues per size that all threads share, and a small cache per worker in front of them.
//!
//! Last in, first out: the stack that was used last is the one whose pages are in the caches. Stacks move between the
//! caches and the queues a batch at a time.
//!
//! A stack that was freed keeps the pages that it has touched ([`Free::used`]) for a while, so that a program whose number
//! of tasks goes up and down does not pay for it. What nobody has needed for a period is given back to the system but for
//! its top page ([`Free::clean`]): [`tend`], which the monitor calls, looks at how many there were at the least.
//!
//! New stacks are made by who needs them, and ahead of need by workers that have nothing to run ([`open_ahead`]).

use std::{
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::{
    CLASSES, Class,
    slab::{MOST_OPENED, Slab},
};
use crate::{
    SpawnError,
    sys::{
        clock,
        memory::{self, PAGE},
    },
    task::{
        chain::{Batch, Queue},
        control::Control,
    },
};

/// Free stacks of one size that always keep their pages.
const KEEP: usize = 1024;

/// After so many nanoseconds it is looked again how many stacks were not needed.
const PERIOD: u64 = 1_000_000_000;

/// Stacks whose pages one call of [`tend`] gives back: some milliseconds of work.
const MOST_TENDED: usize = 4096;

/// Slots of a class's first slab; each further one has twice as many, up to `LARGEST_SLAB`.
const FIRST_SLOTS: usize = 64;
const LARGEST_SLAB: usize = 256 << 20;

/// For so many stacks that exist one may be made ahead of need.
const STACKS_PER_SPARE: usize = 16;

/// The most of them.
const MOST_SPARE: usize = 512;

/// How many of them at a time: the worker does not look for tasks meanwhile.
const SPARES_AT_ONCE: usize = 16;

static POOL: [Mutex<Free>; CLASSES] = [const { Mutex::new(Free::new()) }; CLASSES];

/// Whether stacks of a class had to be made lately by who needed them.
static WANTED: [AtomicBool; CLASSES] = [const { AtomicBool::new(false) }; CLASSES];

/// When the period began, by the coarse clock.
static PERIOD_BEGAN: AtomicU64 = AtomicU64::new(0);

/// The free stacks of one size.
struct Free {
    /// Stacks as their tasks have left them.
    used: Queue,
    /// Stacks with nothing but their top page.
    clean: Queue,
    /// The fewest that were in `used` since the period began.
    lowest: usize,
    /// How many of `used` are to be cleaned.
    unneeded: usize,
    /// Stacks that exist, free or not.
    opened: usize,
    /// What is left of the newest slab.
    unopened: Option<Slots>,
    /// Slots whose guard could not be made; tried again before others. What finds no room here is lost as address space.
    failed: [Option<Slots>; 8],
}

/// Slots of a slab that have never been used.
#[derive(Clone)]
struct Slots {
    slab: &'static Slab,
    range: Range<usize>,
}

impl Free {
    const fn new() -> Self {
        Self {
            used: Queue::new(),
            clean: Queue::new(),
            lowest: 0,
            unneeded: 0,
            opened: 0,
            unopened: None,
            failed: [const { None }; 8],
        }
    }

    fn pop(&mut self) -> Option<Batch> {
        let batch = self.used.pop_newest();
        self.lowest = self.lowest.min(self.used.length());
        batch.or_else(|| self.clean.pop_newest())
    }

    /// Slots that have never been used, at most `most`. The more stacks there are, the more are made at once.
    fn fresh(&mut self, class: Class, most: usize) -> Result<Slots, SpawnError> {
        if let Some(slots) = self.failed.iter_mut().find_map(Option::take) {
            return Ok(slots);
        }
        if self.unopened.as_ref().is_none_or(|slots| slots.range.is_empty()) {
            let largest = (LARGEST_SLAB / class.stride()).max(1);
            let count = self.unopened.as_ref().map_or(FIRST_SLOTS, |slots| slots.slab.slots() * 2).min(largest);
            self.unopened = Some(Slots { slab: Slab::reserve(class.stride(), count)?, range: 0..count });
        }
        let most = most.min(self.opened / STACKS_PER_SPARE).max(1);
        let Slots { slab, range } = self.unopened.as_mut().expect("made above");
        let start = range.start;
        range.start = range.end.min(start + most);
        Ok(Slots { slab, range: start..range.start })
    }
}

/// Stacks of the class, free or new: one at least, some more if they are at hand.
fn take_batch(class: Class, most_new: usize) -> Result<Batch, SpawnError> {
    let pool = &POOL[class.index()];
    let slots = {
        let mut free = pool.lock();
        if let Some(batch) = free.pop() {
            return Ok(batch);
        }
        free.fresh(class, most_new)?
    };
    // Relaxed, as all accesses: a hint.
    WANTED[class.index()].store(true, Ordering::Relaxed);
    open(pool, slots)
}

/// Opens slots that `Free::fresh` has given, or the first of them if there is not enough for all.
fn open(pool: &Mutex<Free>, mut slots: Slots) -> Result<Batch, SpawnError> {
    loop {
        // SAFETY: `fresh` gives each slot to one caller, and again only if opening it failed.
        match unsafe { slots.slab.open(slots.range.clone()) } {
            Ok(batch) => {
                pool.lock().opened += batch.length();
                return Ok(batch);
            }
            Err(error) => {
                // Perhaps there is enough for one.
                let first = slots.range.start..slots.range.start + 1;
                let rest = Slots { range: first.end..slots.range.end, ..slots };
                let alone = rest.range.is_empty();
                let failed = if alone { slots.clone() } else { rest };
                slots.range = first;
                if let Some(place) = pool.lock().failed.iter_mut().find(|place| place.is_none()) {
                    *place = Some(failed);
                }
                if alone {
                    return Err(error);
                }
            }
        }
    }
}

/// Makes a few stacks of the class if some had to be made lately: for a worker that has nothing else to do. Making one
/// is page faults for the most part, a few microseconds, which a task that spawns many others would wait for.
pub(crate) fn open_ahead(class: Class) {
    let wanted = &WANTED[class.index()];
    if !wanted.load(Ordering::Relaxed) {
        return;
    }
    let pool = &POOL[class.index()];
    let slots = {
        let mut free = pool.lock();
        let enough = free.used.length() + free.clean.length() >= (free.opened / STACKS_PER_SPARE).min(MOST_SPARE);
        if enough { None } else { free.fresh(class, SPARES_AT_ONCE).ok() }
    };
    let made = slots.and_then(|slots| open(pool, slots).ok());
    match made {
        Some(batch) => pool.lock().clean.push_newest(batch),
        None => wanted.store(false, Ordering::Relaxed),
    }
}

/// A stack of the class, free or new.
pub(crate) fn take(class: Class) -> Result<NonNull<Control>, SpawnError> {
    let (control, rest) = take_batch(class, 1)?.split();
    if let Some(rest) = rest {
        POOL[class.index()].lock().used.push_newest(rest);
    }
    Ok(control)
}

/// Returns stacks of one class whose tasks have ended.
fn give_batch(batch: Batch, class: Class) {
    POOL[class.index()].lock().used.push_newest(batch);
}

/// Returns a stack whose task has ended.
pub(crate) fn give(control: NonNull<Control>) {
    if let Some(batch) = Batch::link([control]) {
        give_batch(batch, class_of(control));
    }
}

fn class_of(control: NonNull<Control>) -> Class {
    // SAFETY: control blocks are type-stable. Relaxed: the size never changes.
    Class::of_stride(unsafe { control.as_ref() }.stack_size.load(Ordering::Relaxed))
}

/// Whether there are free stacks whose pages [`tend`] would give back in time.
pub(crate) fn has_excess() -> bool {
    POOL.iter().any(|free| free.lock().used.length() > KEEP)
}

/// Gives back the pages of stacks that were not needed for a period. To be called every now and then.
pub(crate) fn tend() {
    let now = clock::coarse();
    // Relaxed: who changes it has the period to itself; nothing else depends on it.
    let began = PERIOD_BEGAN.load(Ordering::Relaxed);
    let begins = now.saturating_sub(began) >= PERIOD
        && PERIOD_BEGAN.compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    POOL.iter().for_each(|free| tend_to(free, begins));
}

fn tend_to(free: &Mutex<Free>, period_begins: bool) {
    let mut left = {
        let mut free = free.lock();
        if period_begins {
            free.unneeded = free.lowest.saturating_sub(KEEP);
            free.lowest = free.used.length();
        }
        free.unneeded.min(MOST_TENDED)
    };
    while left > 0 {
        let batch = {
            let mut free = free.lock();
            let batch = if free.used.length() > KEEP { free.used.pop_oldest() } else { None };
            free.lowest = free.lowest.min(free.used.length());
            free.unneeded = free.unneeded.saturating_sub(batch.map_or(usize::MAX, |batch| batch.length()));
            batch
        };
        let Some(batch) = batch else { return };
        left = left.saturating_sub(batch.length());
        clean(batch);
        free.lock().clean.push_newest(batch);
    }
}

/// Gives back the pages of free stacks but for the top ones.
fn clean(batch: Batch) {
    let mut ranges = [const { 0..0 }; memory::MOST_RANGES];
    let mut count = 0;
    for control in batch {
        // SAFETY: control blocks are never unmapped.
        let low = unsafe { control.as_ref() }.stack().start;
        ranges[count] = low..control.as_ptr() as usize / PAGE * PAGE;
        count += 1;
        if count == ranges.len() {
            // SAFETY: the stacks have no task, so what lies below their control blocks is not needed.
            unsafe { memory::discard_all(&ranges) };
            count = 0;
        }
    }
    // SAFETY: as above.
    unsafe { memory::discard_all(&ranges[..count]) };
}

/// A worker's own free stacks, all of its runtime's default size.
pub(crate) struct Cache {
    class: Class,
    /// Where stacks are taken from and given to; at most [`EXCHANGED`].
    near: Option<Batch>,
    /// Exchanged with the shared queues when `near` is full or empty: so a worker at the border does not exchange each time.
    spare: Option<Batch>,
}

/// The most stacks that a worker gives back at once.
const EXCHANGED: usize = MOST_OPENED;

impl Cache {
    pub(crate) fn new(class: Class) -> Self {
        Self { class, near: None, spare: None }
    }

    pub(crate) fn take(&mut self, class: Class) -> Result<NonNull<Control>, SpawnError> {
        if class != self.class {
            return take(class);
        }
        let batch = match self.near {
            Some(batch) => batch,
            None => self.refill()?,
        };
        let (control, rest) = batch.split();
        self.near = rest;
        if let Some(next) = rest {
            next.head().fetch_to_spawn();
        }
        Ok(control)
    }

    #[inline(never)]
    fn refill(&mut self) -> Result<Batch, SpawnError> {
        match self.spare.take() {
            Some(batch) => Ok(batch),
            None => take_batch(self.class, MOST_OPENED),
        }
    }

    pub(crate) fn give(&mut self, control: NonNull<Control>) {
        if class_of(control) != self.class {
            return give(control);
        }
        if self.near.is_some_and(|batch| batch.length() >= EXCHANGED) {
            self.exchange();
        }
        self.near = Some(Batch::with_head(control, self.near));
    }

    #[inline(never)]
    fn exchange(&mut self) {
        // The spare ones were used longest ago.
        if let Some(batch) = std::mem::replace(&mut self.spare, self.near.take()) {
            give_batch(batch, self.class);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        [self.near, self.spare].into_iter().flatten().for_each(|batch| give_batch(batch, self.class));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::control;

    #[test]
    fn stacks_are_used_again_and_never_twice_at_once() {
        // A size that nothing else in this process asks for.
        let class = Class::for_size(3 << 20).unwrap();
        let mut cache = Cache::new(class);
        let first: Vec<_> =
            (0..100).map(|i| if i < 50 { take(class).unwrap() } else { cache.take(class).unwrap() }).collect();
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
        first.iter().copied().for_each(give);
        drop(cache);
        let pool = POOL[class.index()].lock();
        let (opened, free) = (pool.opened, pool.used.length() + pool.clean.length());
        drop(pool);
        assert!(opened == free && opened <= 100 + 100 / STACKS_PER_SPARE, "{opened} made, {free} free");
        let mut cache = Cache::new(class);
        let mut second: Vec<_> = (0..opened).map(|_| cache.take(class).unwrap()).collect();
        second.sort();
        second.dedup();
        assert_eq!(second.len(), opened);
        assert_eq!(POOL[class.index()].lock().opened, opened, "no new stack while free ones are left");
        second.into_iter().for_each(|control| cache.give(control));
        drop(cache);
        assert_eq!(POOL[class.index()].lock().used.length(), opened);
    }

    #[test]
    fn what_is_not_needed_for_a_period_goes_back_but_for_the_control_block() {
        const EXCESS: usize = 100;
        let class = Class::for_size(5 << 20).unwrap();
        let stacks: Vec<_> = (0..KEEP + EXCESS).map(|_| take(class).unwrap()).collect();
        // SAFETY: taken above; a block is never unmapped.
        let blocks: Vec<&Control> = stacks.iter().map(|control| unsafe { control.as_ref() }).collect();
        let low = |block: &Control| block.stack().start as *mut usize;
        for block in &blocks {
            // SAFETY: the stack has no task.
            unsafe { low(block).write(7) };
            block.about.set_name("kept");
        }
        stacks.iter().copied().for_each(give);
        // SAFETY: as above.
        let kept = || blocks.iter().filter(|block| unsafe { low(block).read() } == 7).count();
        let free = &POOL[class.index()];
        tend_to(free, true);
        assert_eq!(kept(), blocks.len(), "they have been used in this period");
        tend_to(free, true);
        assert_eq!(kept(), KEEP);
        // SAFETY: as above.
        assert!(blocks[..EXCESS].iter().all(|block| unsafe { low(block).read() } == 0), "the oldest go first");
        assert!(blocks.iter().all(|block| block.about.name(&mut [0; control::NAME_BYTES]) == Some("kept")));
        assert_eq!(free.lock().clean.length(), EXCESS);
        tend_to(free, true);
        assert_eq!(kept(), KEEP);
    }
}
