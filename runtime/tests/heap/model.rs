//! Random operations against a model that knows what every block must hold.

use std::{
    alloc::{GlobalAlloc as _, Layout},
    collections::BTreeMap,
    sync::{Mutex, mpsc},
    thread,
};

use greenprof_runtime::heap;

use crate::{HEAP, Random, alone};

/// A block that its owner knows the content of.
struct Owned {
    block: *mut u8,
    layout: Layout,
    fill: u8,
}

// SAFETY: who has it owns the block.
unsafe impl Send for Owned {}

impl Owned {
    /// Checks the ends of the block and a sample in between; all of it if it is small.
    fn check(&self) {
        let bytes = self.layout.size();
        let step = if bytes <= 512 { 1 } else { 509 };
        // SAFETY: a live block of that size, written as a whole.
        let content = unsafe { std::slice::from_raw_parts(self.block, bytes) };
        assert!(content.iter().step_by(step).all(|&byte| byte == self.fill), "{:?} was overwritten", self.layout);
        assert_eq!(content[bytes - 1], self.fill);
    }

    fn write(&mut self, fill: u8) {
        self.fill = fill;
        // SAFETY: a live block of that size.
        unsafe { self.block.write_bytes(fill, self.layout.size()) };
    }
}

/// Which addresses are in use by whom. A second owner of an address is found at once.
static SHADOW: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn enter(owned: &Owned) {
    let (start, end) = (owned.block as usize, owned.block as usize + owned.layout.size());
    assert_eq!(start % owned.layout.align(), 0, "{:?}", owned.layout);
    let mut shadow = SHADOW.lock().unwrap();
    let below = shadow.range(..end).next_back();
    assert!(below.is_none_or(|(_, &other)| other <= start), "{start:x} overlaps {below:x?}");
    shadow.insert(start, end);
}

fn leave(owned: &Owned) {
    assert_eq!(
        SHADOW.lock().unwrap().remove(&(owned.block as usize)),
        Some(owned.block as usize + owned.layout.size())
    );
}

fn allocate(random: &mut Random) -> Option<Owned> {
    let layout = Layout::from_size_align(random.size(), random.align()).unwrap();
    let zeroed = random.below(3) == 0;
    // SAFETY: the layout is not empty.
    let block = unsafe { if zeroed { HEAP.alloc_zeroed(layout) } else { HEAP.alloc(layout) } };
    assert!(!block.is_null());
    let mut owned = Owned { block, layout, fill: 0 };
    enter(&owned);
    if zeroed {
        owned.check();
    }
    owned.write(random.below(256) as u8);
    Some(owned)
}

fn resize(owned: &mut Owned, random: &mut Random) {
    owned.check();
    leave(owned);
    let old = owned.layout.size();
    let new = if random.below(2) == 0 { random.size() } else { (old + random.below(100)).saturating_sub(40).max(1) };
    // SAFETY: a live block with that layout; the new size is not zero.
    owned.block = unsafe { HEAP.realloc(owned.block, owned.layout, new) };
    assert!(!owned.block.is_null());
    let kept = Layout::from_size_align(old.min(new), owned.layout.align()).unwrap();
    Owned { block: owned.block, layout: kept, fill: owned.fill }.check();
    owned.layout = Layout::from_size_align(new, owned.layout.align()).unwrap();
    enter(owned);
    owned.write(random.below(256) as u8);
}

fn free(owned: Owned) {
    owned.check();
    leave(&owned);
    // SAFETY: a live block with that layout.
    unsafe { HEAP.dealloc(owned.block, owned.layout) };
}

fn operations() -> usize {
    match std::env::var("GREENPROF_HEAP_OPERATIONS") {
        Ok(number) => number.parse().expect("a number of operations"),
        Err(_) => 300_000,
    }
}

/// Four threads that allocate, resize, free, and hand blocks to each other. 10^7 operations take about a minute:
/// `GREENPROF_HEAP_OPERATIONS=10000000`.
#[test]
fn random_operations_on_several_threads() {
    alone(|| {
        const THREADS: usize = 4;
        let before = heap::stats();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<Owned>()).unzip();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, inbox) in receivers.into_iter().enumerate() {
                let senders = senders.clone();
                threads.push(scope.spawn(move || {
                    let mut random = Random(number as u64);
                    let mut alive: Vec<Owned> = Vec::new();
                    for _ in 0..operations() / THREADS {
                        match random.below(10) {
                            0..4 => alive.extend(allocate(&mut random)),
                            4..8 if alive.len() > random.below(400) => {
                                free(alive.swap_remove(random.below(alive.len())));
                            }
                            8 if !alive.is_empty() => {
                                let at = random.below(alive.len());
                                resize(&mut alive[at], &mut random);
                            }
                            9 if !alive.is_empty() => {
                                let given = alive.swap_remove(random.below(alive.len()));
                                // An inbox whose thread has ended gives the block back.
                                if let Err(refused) = senders[random.below(THREADS)].send(given) {
                                    free(refused.0);
                                }
                            }
                            _ => alive.extend(inbox.try_recv()),
                        }
                        if alive.len() > 1000 {
                            alive.drain(..500).for_each(free);
                        }
                    }
                    drop(senders);
                    alive.into_iter().chain(inbox).for_each(free);
                }));
            }
            drop(senders);
            // The end of the scope would not wait until the threads have given their caches back.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!(SHADOW.lock().unwrap().is_empty());
        let after = heap::stats();
        assert_eq!(after.in_use, before.in_use, "everything was freed");
        assert!(after.allocated.objects > before.allocated.objects + operations() as u64 / 4);
    });
}

/// Threads that live for a few allocations, and leave blocks to others.
#[test]
fn storm_of_short_threads() {
    alone(|| {
        let before = heap::stats().in_use;
        let mut left: Vec<Owned> = Vec::new();
        for round in 0..250 {
            let mut random = Random(round);
            let given: Vec<Owned> = left.drain(..left.len() / 2).collect();
            let mut given = given.into_iter();
            thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|number| {
                        let mine: Vec<Owned> = given.by_ref().take(8).collect();
                        let mut random = Random(random.below(1 << 30) as u64 + number);
                        scope.spawn(move || {
                            mine.into_iter().for_each(free);
                            (0..random.below(40)).filter_map(|_| allocate(&mut random)).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                left.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
            });
            left.extend(given);
            while left.len() > 300 {
                free(left.swap_remove(random.below(left.len())));
            }
        }
        left.into_iter().for_each(free);
        assert_eq!(heap::stats().in_use, before);
    });
}

#[test]
fn alignments_and_sizes_at_the_boundaries() {
    alone(|| {
        for shift in 0..=22 {
            for size in [1, 15, 16, 17, 128, 129, 1023, 1024, 1025, 8191, 8192, 8193, 32_767, 32_768, 32_769, 1 << 20] {
                let layout = Layout::from_size_align(size, 1 << shift).unwrap();
                // SAFETY: the layout is not empty, and the block is freed as it was allocated.
                unsafe {
                    let block = HEAP.alloc(layout);
                    assert!(!block.is_null() && (block as usize).is_multiple_of(1 << shift), "{layout:?}");
                    block.write_bytes(0xff, size);
                    HEAP.dealloc(block, layout);
                    let block = HEAP.alloc_zeroed(layout);
                    assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0), "{layout:?}");
                    HEAP.dealloc(block, layout);
                }
            }
        }
    });
}

#[test]
fn too_much_gives_null() {
    alone(|| {
        for size in [1 << 41, 1 << 46, isize::MAX as usize - (2 << 20)] {
            for align in [1, 1 << 20] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout is not empty.
                assert!(unsafe { HEAP.alloc(layout) }.is_null());
            }
        }
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: the layout is not empty; a block that cannot be made larger stays as it is.
        unsafe {
            let block = HEAP.alloc_zeroed(layout);
            assert!(HEAP.realloc(block, layout, isize::MAX as usize - 8).is_null());
            assert_eq!(block.add(99).read(), 0);
            HEAP.dealloc(block, layout);
        }
    });
}

#[test]
fn large_blocks_grow_and_shrink_in_place() {
    alone(|| {
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: each size is the one that the block has at that moment.
        unsafe {
            let block = HEAP.alloc(layout(1 << 20));
            block.write_bytes(7, 1 << 20);
            assert_eq!(HEAP.realloc(block, layout(1 << 20), 200_000), block);
            assert_eq!(HEAP.realloc(block, layout(200_000), 1 << 20), block, "into what it has just left");
            assert_eq!(block.add(199_999).read(), 7);
            HEAP.dealloc(block, layout(1 << 20));
        }
    });
}
