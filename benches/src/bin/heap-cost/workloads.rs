//! What is measured.

use std::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicPtr, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use clap::ValueEnum;

/// A pattern of allocating and freeing blocks of 16 to 1024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Each block is freed at once.
    Immediate,
    /// 4096 blocks are alive; each new one takes the place of the oldest.
    Ring,
    /// One thread allocates and writes a block, another one frees it; they are joined by a ring of 1024 slots.
    Crossing,
    /// 100 000 blocks are alive, each new one takes the place of a random one.
    Crowd,
}

impl Case {
    pub const ALL: [Self; 4] = [Self::Immediate, Self::Ring, Self::Crossing, Self::Crowd];

    /// How many threads, or pairs of threads.
    pub fn threads(self) -> &'static [usize] {
        if self == Self::Crossing { &[1] } else { &[1, 2] }
    }

    /// Nanoseconds for an allocation and its free, of `1 / part` of a batch.
    pub fn run<A: GlobalAlloc + Sync>(self, allocator: &'static A, threads: usize, part: usize) -> f64 {
        match self {
            Self::Immediate => on_threads(threads, 4_000_000 / part, |count| immediate(allocator, count)),
            Self::Ring => on_threads(threads, 4_000_000 / part, |count| replace(allocator, count, 4096, false)),
            Self::Crowd => on_threads(threads, 2_000_000 / part, |count| replace(allocator, count, 100_000, true)),
            Self::Crossing => crossing(allocator, 2_000_000 / part),
        }
    }
}

/// A block's size, from a generator that costs little beside an allocation.
fn size(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    16 + (*state >> 54) as usize % 1009
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("small sizes are valid")
}

/// The calling thread's CPU time in nanoseconds: what other programs do meanwhile does not count.
fn cpu_time() -> f64 {
    let time =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

/// Runs `work` on threads that start together; gives the CPU time for one operation.
fn on_threads(threads: usize, count: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let start = cpu_time();
                    work(count);
                    (cpu_time() - start) / count as f64
                })
            })
            .collect();
        let all: Vec<f64> = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).collect();
        all.iter().sum::<f64>() / all.len() as f64
    })
}

fn immediate<A: GlobalAlloc>(allocator: &A, count: usize) {
    let mut state = 1;
    for _ in 0..count {
        let layout = layout(size(&mut state));
        // SAFETY: the layout is not empty, and the block is freed once, as it was allocated.
        unsafe {
            let block = black_box(allocator.alloc(layout));
            block.write(1);
            allocator.dealloc(block, layout);
        }
    }
}

fn replace<A: GlobalAlloc>(allocator: &A, count: usize, alive: usize, anywhere: bool) {
    let mut state = 1;
    let mut blocks: Vec<(*mut u8, Layout)> = (0..alive)
        .map(|_| {
            let layout = layout(size(&mut state));
            // SAFETY: the layout is not empty.
            (unsafe { allocator.alloc(layout) }, layout)
        })
        .collect();
    let mut next = 0;
    for _ in 0..count {
        let layout = layout(size(&mut state));
        next = if anywhere { (state >> 20) as usize % alive } else { (next + 1) % alive };
        let place = &mut blocks[next];
        // SAFETY: each block is freed once, as it was allocated, when it leaves its place.
        unsafe {
            allocator.dealloc(place.0, place.1);
            let block = black_box(allocator.alloc(layout));
            block.write(1);
            *place = (block, layout);
        }
    }
    for (block, layout) in blocks {
        // SAFETY: as above.
        unsafe { allocator.dealloc(block, layout) };
    }
}

fn crossing<A: GlobalAlloc + Sync>(allocator: &'static A, count: usize) -> f64 {
    const SLOTS: usize = 1024;
    let ring: Vec<AtomicPtr<u8>> = (0..SLOTS).map(|_| AtomicPtr::default()).collect();
    let done = AtomicUsize::new(0);
    // The layouts are not sent along: both sides draw the same sizes.
    let wait = |turns: &mut u32| {
        *turns += 1;
        if turns.is_multiple_of(64) { thread::yield_now() } else { std::hint::spin_loop() }
    };
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1;
            for number in 0..count {
                // SAFETY: the layout is not empty.
                let block = unsafe { allocator.alloc(layout(size(&mut state))) };
                // SAFETY: a new block of at least 16 bytes.
                unsafe { block.write(1) };
                let slot = &ring[number % SLOTS];
                let mut turns = 0;
                // Acquire: pairs with the Release below, when the slot was emptied.
                while !slot.load(Ordering::Acquire).is_null() {
                    wait(&mut turns);
                }
                slot.store(block, Ordering::Release);
            }
        });
        let mut state = 1;
        for number in 0..count {
            let slot = &ring[number % SLOTS];
            let mut turns = 0;
            let block = loop {
                // Acquire: pairs with the Release above.
                let block = slot.load(Ordering::Acquire);
                if !block.is_null() {
                    break block;
                }
                wait(&mut turns);
            };
            slot.store(std::ptr::null_mut(), Ordering::Release);
            // SAFETY: the other side allocated it with this layout, and gave it away.
            unsafe { allocator.dealloc(block, layout(size(&mut state))) };
        }
        done.store(count, Ordering::Relaxed);
    });
    start.elapsed().as_nanos() as f64 / done.load(Ordering::Relaxed) as f64
}
