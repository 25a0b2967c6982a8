//! The sampler at its highest rate against everything that could trip it: allocation, panics, spawns, exits and switches on
//! two workers, and foreign threads that come and go.
//!
//! Profiles by timers and by perf events take turns. Runs for 30 seconds; `GREENPROF_STRESS_SECONDS` makes it longer. Its allocator notices any allocation on a signal
//! stack.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    panic::{self, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_profiler::{
    cpu::{self, Clock},
    http::NamedProfile,
    tasks,
};
use greenprof_runtime::{
    Runtime, labels, sleep, spawn,
    sync::{Chan, Mutex, WaitGroup},
    yield_now,
};

/// The system's allocator, and a count of the times it was used in a signal handler.
struct Watched;

static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

fn watch() {
    // SAFETY: asks where this thread's alternate signal stack is; the answer has a valid place.
    let on_signal_stack = unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &mut stack) == 0 && stack.ss_flags & libc::SS_ONSTACK != 0
    };
    if on_signal_stack {
        IN_HANDLER.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        watch();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Work of each kind that was completed.
#[derive(Default)]
struct Progress {
    allocations: AtomicU64,
    panics: AtomicU64,
    spawns: AtomicU64,
    switches: AtomicU64,
    messages: AtomicU64,
    threads: AtomicU64,
}

impl Progress {
    fn counters(&self) -> [(&'static str, u64); 6] {
        let Self { allocations, panics, spawns, switches, messages, threads } = self;
        [
            ("allocations", allocations),
            ("panics", panics),
            ("spawns", spawns),
            ("switches", switches),
            ("messages", messages),
            ("threads", threads),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn deep_panic(depth: u32) {
    if depth == 0 {
        panic::panic_any("on purpose");
    }
    let payload = vec![depth; 10]; // dropped by the unwinding
    deep_panic(depth - 1);
    std::hint::black_box(payload);
}

fn load(progress: &Arc<Progress>, stop: &Arc<AtomicBool>) -> Vec<greenprof_runtime::JoinHandle<()>> {
    let task = |label: &'static str, body: Box<dyn Fn() + Send>| {
        let stop = stop.clone();
        labels::with(&[("load", label)], || {
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    body();
                }
            })
        })
    };
    let with = |body: fn(&Progress)| {
        let progress = progress.clone();
        Box::new(move || body(&progress)) as Box<dyn Fn() + Send>
    };
    let lock = Arc::new(Mutex::new(Vec::new()));
    let (messages, receiver) = (Chan::with_capacity(8), Chan::with_capacity(8));
    let (sender, sent) = (messages.clone(), progress.clone());
    vec![
        task(
            "allocate",
            with(|progress| {
                let blocks: Vec<Vec<u8>> = (1..50).map(|n| vec![n; n as usize * 30]).collect();
                std::hint::black_box(blocks);
                count(&progress.allocations);
                yield_now();
            }),
        ),
        task(
            "panic",
            with(|progress| {
                assert!(catch_unwind(|| deep_panic(20)).is_err());
                count(&progress.panics);
                yield_now();
            }),
        ),
        task(
            "spawn",
            with(|progress| {
                let group = WaitGroup::new();
                group.add(20);
                for i in 0..20 {
                    let group = group.clone();
                    spawn(move || {
                        group.done();
                        if i == 0 {
                            panic::panic_any("a task that ends with a panic");
                        }
                    });
                }
                group.wait();
                count(&progress.spawns);
            }),
        ),
        task(
            "switch",
            with(|progress| {
                (0..100).for_each(|_| yield_now());
                count(&progress.switches);
            }),
        ),
        task(
            "lock",
            Box::new(move || {
                let mut list = lock.lock();
                list.push(1_u8);
                if list.len() > 1000 {
                    list.clear();
                }
                drop(list);
                sleep(Duration::from_micros(50));
            }),
        ),
        task(
            "send",
            Box::new(move || {
                let _ = sender.try_send(1_u32);
                let _ = receiver.try_send(1_u32);
                let _ = receiver.try_recv();
                if messages.try_recv().is_ok() {
                    count(&sent.messages);
                }
                yield_now();
            }),
        ),
    ]
}

/// Threads that are no workers: some live for microseconds, some use CPU for a while.
fn foreign_threads(progress: Arc<Progress>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let threads: Vec<_> = (0..4)
            .map(|i: u64| {
                std::thread::spawn(move || {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_micros(i * i * 700) {
                        std::hint::black_box(vec![0_u8; 100]);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        count(&progress.threads);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn nothing_trips_over_the_sampler() {
    let seconds = env::var("GREENPROF_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    panic::set_hook(Box::new(|info| {
        // Only failures of the test itself are worth a line.
        if info.payload().downcast_ref::<&str>().is_none_or(|text| text.contains("assertion")) {
            eprintln!("{info}");
        }
    }));
    let progress = Arc::new(Progress::default());
    let stop = Arc::new(AtomicBool::new(false));
    let foreign = {
        let (progress, stop) = (progress.clone(), stop.clone());
        std::thread::spawn(move || foreign_threads(progress, stop))
    };
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut samples, mut expiries, mut lost, mut sessions, mut stacks) = (0, 0, 0, 0, 0);
    runtime.run(|| {
        let tasks = load(&progress, &stop);
        while Instant::now() < end {
            let before = progress.counters();
            // Perf events where they are permitted.
            let clock = if sessions % 2 == 0 { Clock::Timers } else { Clock::Auto };
            let session = cpu::start_with(cpu::MAX_HZ, clock).expect("the only profiler");
            assert!(cpu::start(cpu::DEFAULT_HZ).is_err(), "one at a time");
            for _ in 0..10 {
                sleep(Duration::from_millis(200));
                // Asks the running tasks by the same signal.
                let snapshot = tasks::snapshot();
                stacks += snapshot.tasks.iter().filter(|task| task.stack.is_some()).count();
                assert!(tasks::TaskProfile.count() >= 7);
            }
            let summary = session.stop().summary;
            for ((name, before), (_, after)) in before.into_iter().zip(progress.counters()) {
                assert!(after > before, "no progress in {name} during two seconds");
            }
            samples += summary.samples;
            expiries += summary.weight;
            lost += summary.lost;
            sessions += 1;
            println!("{summary}");
        }
        stop.store(true, Ordering::Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    foreign.join().unwrap();
    println!("{sessions} profiles, {samples} stacks for {expiries} expiries, {lost} lost; {stacks} task stacks");
    println!("{:?}", progress.counters());
    assert!(samples > 0);
    assert_eq!(IN_HANDLER.load(Ordering::Relaxed), 0, "allocations in a signal handler");
}
