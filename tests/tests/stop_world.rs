//! The world is stopped again and again, while threads allocate, come and go, start programs, block signals and sleep, tasks
//! run and wait, and the CPU sampler interrupts them all. No thread may be missed, nothing may hang, and a stopped world
//! allocates nothing.
//!
//! The proof that none is missed: whoever runs counts, each thread on a counter of its own (short-lived ones share a few).
//! In a stopped world all counters are read twice, with a pause between.
//!
//! Stops the world 1500 times; `GREENPROF_STOP_COUNT` is another number.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fs, mem,
    os::unix::process::CommandExt,
    process::Command,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::cpu;
use greenprof_runtime::{
    Runtime, spawn,
    sync::{Chan, WaitGroup},
    task,
    world::{
        self,
        stop::{Missed, Patience, Pause, StopError, Stopped, ThreadState},
    },
    yield_now,
};

/// The system's allocator, and a count of the times it was used in a stopped world.
struct Watched;

static IN_STOPPED_WORLD: AtomicU64 = AtomicU64::new(0);

fn watch() {
    if world::stop::inside() {
        IN_STOPPED_WORLD.fetch_add(1, Ordering::Relaxed);
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

/// Who counts. Those up to `Short` share their counters among several threads or tasks.
#[derive(Clone, Copy, Debug)]
enum Who {
    Tasks,
    Messages,
    TaskSpawns,
    Short,
    Allocating,
    AllocatingToo,
    Spawning,
    Starting,
    StartingByFork,
    Blocking,
    Sleeping,
    Requesting,
}

const WHO: [Who; 12] = [
    Who::Tasks,
    Who::Messages,
    Who::TaskSpawns,
    Who::Short,
    Who::Allocating,
    Who::AllocatingToo,
    Who::Spawning,
    Who::Starting,
    Who::StartingByFork,
    Who::Blocking,
    Who::Sleeping,
    Who::Requesting,
];

static COUNTERS: [AtomicU64; WHO.len()] = [const { AtomicU64::new(0) }; WHO.len()];
static END: AtomicBool = AtomicBool::new(false);

fn count(who: Who) {
    COUNTERS[who as usize].fetch_add(1, Ordering::Relaxed);
}

fn running() -> bool {
    !END.load(Ordering::Relaxed)
}

/// Counts for about this long.
fn work(who: Who, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        count(who);
    }
}

fn mutators() -> Vec<thread::JoinHandle<()>> {
    fn repeat(body: impl Fn() + Send + 'static) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            while running() {
                body();
            }
        })
    }
    let allocate = |who| {
        repeat(move || {
            let blocks: Vec<Vec<u8>> = (1..50).map(|n| vec![n; n as usize * 300]).collect();
            std::hint::black_box(blocks);
            count(who);
        })
    };
    vec![
        allocate(Who::Allocating),
        allocate(Who::AllocatingToo),
        repeat(|| {
            let threads: Vec<_> =
                (0..3).map(|i| thread::spawn(move || work(Who::Short, Duration::from_micros(i * 60)))).collect();
            count(Who::Spawning);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }),
        repeat(|| {
            // By posix_spawn, which is a vfork.
            assert!(Command::new("true").status().unwrap().success());
            count(Who::Starting);
            thread::sleep(Duration::from_millis(10));
        }),
        repeat(|| {
            let mut command = Command::new("true");
            // SAFETY: the closure does nothing. With it, std forks.
            unsafe { command.pre_exec(|| Ok(())) };
            assert!(command.status().unwrap().success());
            count(Who::StartingByFork);
            thread::sleep(Duration::from_millis(25));
        }),
        repeat(|| {
            // SAFETY: the set is initialised, and only this thread's mask changes.
            unsafe {
                let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
                work(Who::Blocking, Duration::from_micros(100));
                libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
            }
            thread::sleep(Duration::from_micros(300));
        }),
        repeat(|| {
            thread::sleep(Duration::from_micros(50));
            count(Who::Sleeping);
        }),
    ]
}

/// Tasks on workers of their own.
fn tasks() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        Runtime::builder().workers(2).build().unwrap().run(|| {
            let messages = Chan::with_capacity(4);
            let group = WaitGroup::new();
            group.add(2);
            for _ in 0..2 {
                let group = group.clone();
                spawn(move || {
                    while running() {
                        work(Who::Tasks, Duration::from_micros(20));
                        yield_now();
                    }
                    group.done();
                });
            }
            let receiver = messages.clone();
            let receiving = spawn(move || receiver.iter().for_each(|()| count(Who::Messages)));
            while running() {
                let children: Vec<_> = (0..5).map(|_| spawn(|| count(Who::TaskSpawns))).collect();
                children.into_iter().for_each(|child| child.join().unwrap());
                messages.send(()).unwrap();
                task::blocking(|| thread::sleep(Duration::from_micros(200)));
            }
            messages.close();
            receiving.join().unwrap();
            group.wait();
        });
    })
}

/// What was seen in a stopped world.
struct Seen {
    /// A counter that moved.
    moved: Option<usize>,
    tasks: usize,
    missed: Option<Missed>,
}

fn look(world: &Stopped<'_>) -> Seen {
    let read = || -> [u64; WHO.len()] { std::array::from_fn(|i| COUNTERS[i].load(Ordering::Relaxed)) };
    let before = read();
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
    let after = read();
    let moved = (0..WHO.len()).find(|i| before[*i] != after[*i]);
    let missed = world.threads().find_map(|thread| match thread.state() {
        ThreadState::Missed(missed) => Some(missed),
        _ => None,
    });
    Seen { moved: moved.filter(|_| world.complete()), tasks: world.tasks().count(), missed }
}

const PATIENCE: Patience = Patience { deadline: Duration::from_millis(50), attempts: 3 };

/// Asks for stops now and then: from a task, and so from a worker's thread.
fn other_requester() -> thread::JoinHandle<u64> {
    thread::spawn(|| {
        Runtime::builder().workers(1).build().unwrap().run(|| {
            let mut stops = 0;
            while running() {
                let seen = match world::stop(PATIENCE, look) {
                    Ok(stop) => stop.value,
                    Err(StopError::Nested) => unreachable!("another thread's request is waited for"),
                    Err(error) => panic!("{error}"),
                };
                assert!(seen.moved.is_none(), "{:?} ran on", seen.moved.map(|i| WHO[i]));
                count(Who::Requesting);
                stops += 1;
                thread::sleep(Duration::from_millis(3));
            }
            stops
        })
    })
}

/// Aborts the process unless it is wound up again within a minute. No thread can do that: it would be stopped, too.
struct Watchdog(libc::timer_t);

impl Watchdog {
    fn new() -> Self {
        extern "C" fn bark(_: libc::c_int) {
            let text = b"\nthe world hangs: it was not stopped and released for a minute\n";
            // SAFETY: both may be called in a handler; the second ends the process.
            unsafe {
                libc::write(2, text.as_ptr().cast(), text.len());
                libc::_exit(134);
            }
        }
        // SAFETY: valid arguments. The signal is one that neither a stopped thread nor the requester blocks.
        unsafe {
            libc::signal(libc::SIGABRT, bark as *const () as usize);
            let mut event: libc::sigevent = mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGABRT;
            let mut timer = ptr::null_mut();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
            Self(timer)
        }
    }

    fn wind_up(&self) {
        // SAFETY: the timer exists.
        unsafe {
            let mut time: libc::itimerspec = mem::zeroed();
            time.it_value.tv_sec = 60;
            libc::timer_settime(self.0, 0, &time, ptr::null_mut());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile) as usize];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0))
}

#[test]
fn no_thread_is_missed() {
    let stops = env::var("GREENPROF_STOP_COUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(1500);
    let watchdog = Watchdog::new();
    let (mutators, tasks, other) = (mutators(), tasks(), other_requester());
    let session = cpu::start(cpu::MAX_HZ).expect("the only profiler");
    let mut pauses: Vec<Pause> = Vec::with_capacity(stops);
    let (mut missed_threads, mut incomplete, mut threads, mut saw_tasks) = (Vec::new(), 0, 0, 0);
    let most_threads = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    for i in 0..stops {
        watchdog.wind_up();
        let stop = world::stop(PATIENCE, |world| {
            most_threads.fetch_max(world.threads().count(), Ordering::Relaxed);
            look(world)
        })
        .unwrap();
        let Seen { moved, tasks, missed } = stop.value;
        assert!(moved.is_none(), "stop {i} was complete, and {:?} ran on", moved.map(|i| WHO[i]));
        assert!(!stop.complete || missed.is_none(), "stop {i} was complete without a thread: {missed:?}");
        missed_threads.extend(missed);
        incomplete += usize::from(!stop.complete);
        threads += stop.pause.threads;
        saw_tasks += tasks;
        pauses.push(stop.pause);
        // The world has to get somewhere in between, and not always as far; now and then not at all.
        if i % 4 == 0 {
            thread::sleep(Duration::from_micros(i as u64 / 4 % 7 * 50));
        }
    }
    let elapsed = start.elapsed();
    END.store(true, Ordering::Relaxed);
    watchdog.wind_up();
    let summary = session.stop().summary;
    mutators.into_iter().for_each(|thread| thread.join().unwrap());
    tasks.join().unwrap();
    let others = other.join().unwrap();
    let retries = pauses.iter().filter(|pause| pause.attempts > 1).count();
    println!("{stops} stops in {elapsed:.1?}, {others} by another thread; load: {}", load());
    println!(
        "{:.1} threads a stop, at most {}; {:.1} tasks",
        threads as f64 / stops as f64,
        most_threads.load(Ordering::Relaxed),
        saw_tasks as f64 / stops as f64
    );
    println!("until stopped: {}", quantiles(pauses.iter().map(|pause| pause.stopping).collect()));
    println!(
        "until released, after looking for 50 us: {}",
        quantiles(pauses.iter().map(|pause| pause.stopped).collect())
    );
    println!("{retries} needed another attempt, {incomplete} were incomplete: {missed_threads:?}");
    println!("sampler: {summary}");
    for (who, counter) in WHO.iter().zip(&COUNTERS) {
        let counter = counter.load(Ordering::Relaxed);
        println!("{who:?}: {counter}");
        assert!(counter > 0, "{who:?} never ran");
    }
    assert_eq!(IN_STOPPED_WORLD.load(Ordering::Relaxed), 0, "allocations in a stopped world");
    assert!(incomplete * 50 <= stops, "{incomplete} of {stops} were not complete");
    let all = world::stop::pauses();
    assert_eq!(all.complete + all.incomplete, stops as u64 + others);
    assert!(all.stopping.quantile(0.5).is_some());
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").map(|text| text.trim().to_owned()).unwrap_or_default()
}
