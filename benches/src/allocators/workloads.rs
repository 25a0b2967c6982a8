//! Patterns of allocating and freeing blocks of 16 to 1024 bytes. All give nanoseconds of CPU time for an allocation and its
//! free.

use std::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    sync::{Barrier, mpsc},
    thread,
};

/// How many blocks a ring has.
const RING: usize = 4096;
/// How many blocks a crowd has.
const CROWD: usize = 100_000;

/// Each block is freed at once.
pub(super) fn immediate<A: GlobalAlloc + Sync>(allocator: &'static A, threads: usize, count: u64) -> f64 {
    on_threads(threads, count as usize, |count| free_at_once(allocator, count))
}

/// 4096 blocks are alive; each new one takes the place of the oldest.
pub(super) fn ring<A: GlobalAlloc + Sync>(allocator: &'static A, threads: usize, count: u64) -> f64 {
    on_threads(threads, count as usize, |count| replace(allocator, count, RING, false))
}

/// 100 000 blocks are alive; each new one takes the place of a random one.
pub(super) fn crowd<A: GlobalAlloc + Sync>(allocator: &'static A, threads: usize, count: u64) -> f64 {
    on_threads(threads, count as usize, |count| replace(allocator, count, CROWD, true))
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

fn free_at_once<A: GlobalAlloc>(allocator: &A, count: usize) {
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

/// The blocks on their way from one thread to the other, with their layouts.
struct Parcel(Vec<(*mut u8, Layout)>);

// SAFETY: the blocks belong to whoever has the parcel.
unsafe impl Send for Parcel {}

/// One thread allocates and writes blocks, another one frees them; the CPU time is that of both. They hand over parcels and sleep while there is none, so that waiting for each other
/// on a loaded machine is not counted.
pub(super) fn crossing<A: GlobalAlloc + Sync>(allocator: &'static A, count: u64) -> f64 {
    const PARCEL: usize = 500;
    let parcels = (count as usize).div_ceil(PARCEL);
    let (sender, receiver) = mpsc::sync_channel::<Parcel>(8);
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let start = cpu_time();
            let mut state = 1;
            for _ in 0..parcels {
                let mut parcel = Parcel(Vec::with_capacity(PARCEL));
                for _ in 0..PARCEL {
                    let layout = layout(size(&mut state));
                    // SAFETY: the layout is not empty, and the block has at least 16 bytes.
                    unsafe {
                        let block = allocator.alloc(layout);
                        block.write(1);
                        parcel.0.push((block, layout));
                    }
                }
                sender.send(parcel).expect("the consumer ends after this thread");
            }
            cpu_time() - start
        });
        let start = cpu_time();
        for parcel in receiver {
            for (block, layout) in parcel.0 {
                // SAFETY: allocated with this layout, and given away.
                unsafe { allocator.dealloc(block, layout) };
            }
        }
        let spent = cpu_time() - start + producer.join().expect("the producer does not panic");
        spent / (parcels * PARCEL) as f64
    })
}
