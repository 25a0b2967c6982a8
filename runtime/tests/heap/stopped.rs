//! Threads stopped by a signal at any instruction of the allocator.

use std::{
    alloc::{GlobalAlloc as _, Layout},
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::heap::View;

use crate::{HEAP, Random, alone};

const THREADS: usize = 2;
const BLOCKS: usize = 500;

/// What each thread has at the moment: written after allocating and erased before freeing.
static ALIVE: [[AtomicUsize; BLOCKS]; THREADS] = [const { [const { AtomicUsize::new(0) }; BLOCKS] }; THREADS];
static STOPPED: AtomicU32 = AtomicU32::new(0);
static GO_ON: AtomicU32 = AtomicU32::new(0);
static END: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    let round = GO_ON.load(Ordering::SeqCst);
    STOPPED.fetch_add(1, Ordering::SeqCst);
    while GO_ON.load(Ordering::SeqCst) == round {
        // SAFETY: no preconditions, and allowed in a handler.
        unsafe { libc::sched_yield() };
    }
}

/// Lets everybody go, also when the test fails.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        END.store(true, Ordering::SeqCst);
        GO_ON.fetch_add(1, Ordering::SeqCst);
    }
}

fn churn(number: usize) {
    let mut random = Random(number as u64);
    let mut layouts = vec![Layout::new::<u8>(); BLOCKS];
    while !END.load(Ordering::Relaxed) {
        let at = random.below(BLOCKS);
        let block = ALIVE[number][at].swap(0, Ordering::SeqCst);
        if block != 0 {
            // SAFETY: allocated below with this layout, and taken out of the list.
            unsafe { HEAP.dealloc(block as *mut u8, layouts[at]) };
        }
        let size = if random.below(50) == 0 { 1 + random.below(200_000) } else { 1 + random.below(3000) };
        layouts[at] = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { HEAP.alloc(layouts[at]) };
        ALIVE[number][at].store(block as usize, Ordering::SeqCst);
    }
    for (at, layout) in layouts.into_iter().enumerate() {
        let block = ALIVE[number][at].swap(0, Ordering::SeqCst);
        if block != 0 {
            // SAFETY: as above.
            unsafe { HEAP.dealloc(block as *mut u8, layout) };
        }
    }
}

#[test]
fn a_view_is_right_wherever_threads_were_stopped() {
    alone(|| {
        // SAFETY: the handler only touches atomics.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = stop as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
        }
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (tell, id) = std::sync::mpsc::channel();
                    let handle = scope.spawn(move || {
                        // SAFETY: no preconditions.
                        tell.send(unsafe { libc::pthread_self() }).unwrap();
                        churn(number);
                    });
                    (id.recv().unwrap(), handle)
                })
                .collect();
            let end = Instant::now() + Duration::from_secs(3);
            let ending = Ending;
            let mut looks = 0;
            while Instant::now() < end {
                for &(thread, _) in &threads {
                    // SAFETY: the threads run until `END` is set.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
                }
                while STOPPED.load(Ordering::SeqCst) < THREADS as u32 {
                    thread::yield_now();
                }
                // SAFETY: both threads that use the heap are in the handler.
                let view = unsafe { View::of_stopped_world() }.expect("no other view");
                for word in ALIVE.iter().flatten().map(|word| word.load(Ordering::SeqCst)).filter(|&word| word != 0) {
                    let block = view.resolve(word).expect("a block that a thread has is allocated");
                    assert_eq!(block.start, word);
                }
                let (blocks, mut last) = (view.blocks(), 0);
                let mut count = 0;
                for block in blocks {
                    assert!(block.start >= last);
                    last = block.start + block.size;
                    count += 1;
                }
                // Those in the lists, and what is on its way somewhere: a batch for each thread, or a span that is emptied.
                let listed = ALIVE.iter().flatten().filter(|word| word.load(Ordering::SeqCst) != 0).count();
                assert!(count >= listed && count <= listed + THREADS * 400, "{count} blocks, {listed} listed");
                drop(view);
                looks += 1;
                STOPPED.store(0, Ordering::SeqCst);
                GO_ON.fetch_add(1, Ordering::SeqCst);
            }
            drop(ending);
            // The end of the scope would not wait until the threads have given their caches back.
            threads.into_iter().for_each(|(_, handle)| handle.join().unwrap());
            assert!(looks > 20, "only {looks} looks");
        });
    });
}
