//! A program whose allocator is the span heap: std and the runtime on it, forks, memory limits, threads that end, and what
//! sampling tells.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    os::unix::process::CommandExt as _,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use greenprof_runtime::{
    Runtime,
    heap::{self, Heap, sampling},
    spawn,
    sync::Chan,
};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Tests that look at the whole process take turns with all others.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collections(seed: u64) -> u64 {
    let mut tree = BTreeMap::new();
    let mut table = HashMap::new();
    let mut queue = VecDeque::new();
    let mut text = String::new();
    for number in 0..2000_u64 {
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        tree.insert(key, vec![number; number as usize % 50]);
        table.insert(key, format!("{number} of {seed}"));
        queue.push_back(Box::new(key));
        text.push_str(&table[&key]);
        if number % 3 == 0 {
            let old = queue.pop_front().unwrap();
            tree.remove(&old);
            table.remove(&old);
        }
    }
    assert!(tree.keys().all(|key| table.contains_key(key)));
    assert!(tree.values().all(|list| list.iter().all(|number| list.len() == *number as usize % 50)));
    tree.len() as u64 + text.len() as u64 % 2
}

#[test]
fn collections_and_tasks() {
    let _alone = alone();
    let expected: u64 = (0..64).map(collections).sum();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let sum = runtime.run(move || {
        let results = Chan::with_capacity(4);
        for seed in 0..64 {
            let results = results.clone();
            spawn(move || {
                let mine = collections(seed);
                // Blocks of this task are freed on another worker, now and then.
                greenprof_runtime::yield_now();
                results.send(Box::new(mine)).unwrap();
            });
        }
        (0..64).map(|_| *results.recv().unwrap()).sum::<u64>()
    });
    assert_eq!(sum, expected);
}

struct AllocatesWhenDropped(Vec<String>);

impl Drop for AllocatesWhenDropped {
    fn drop(&mut self) {
        self.0.push(format!("{} at the end", self.0.len()));
        assert!(self.0.iter().all(|text| text.ends_with("at the end")));
    }
}

thread_local! {
    static LATE: RefCell<AllocatesWhenDropped> = const { RefCell::new(AllocatesWhenDropped(Vec::new())) };
}

/// Allocates in a destructor that the C library calls, four times, so also after the thread's cache is gone.
extern "C" fn later(value: *mut libc::c_void) {
    LATER_CALLS.fetch_add(1, Ordering::Relaxed);
    let text = format!("{value:?}");
    assert!(text.starts_with("0x"));
    let key = LATER_KEY.load(Ordering::Relaxed) as libc::pthread_key_t;
    // SAFETY: the key exists, and the value is only printed.
    unsafe { libc::pthread_setspecific(key, value) };
}

static LATER_KEY: AtomicUsize = AtomicUsize::new(0);
static LATER_CALLS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn threads_that_allocate_while_they_end() {
    let _alone = alone();
    let mut key = 0;
    // SAFETY: a place for the key, and a function that lives as long as the program.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(later)) }, 0);
    LATER_KEY.store(key as usize, Ordering::Relaxed);
    for round in 0..300 {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                thread::spawn(move || {
                    // SAFETY: the key exists, and the value is only printed.
                    unsafe { libc::pthread_setspecific(key, 8 as *const libc::c_void) };
                    LATE.with_borrow_mut(|late| late.0.push(format!("{round} {number} at the end")));
                    vec![number; 100 + round]
                })
            })
            .collect();
        for (number, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), vec![number; 100 + round]);
        }
    }
    assert!(LATER_CALLS.load(Ordering::Relaxed) >= 4 * 2400);
    LATER_KEY.store(0, Ordering::Relaxed);
}

#[test]
fn commands_fork_while_others_allocate() {
    let _alone = alone();
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let end = &end;
            scope.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    collections(seed);
                    drop(vec![0_u8; 300_000]);
                }
            });
        }
        for number in 0..100 {
            let mut command = Command::new("true");
            // SAFETY: the closure runs in the child of a process with other threads; allocating there is what is tested.
            unsafe {
                command.pre_exec(move || {
                    let small: Vec<String> = (0..500).map(|n| format!("{n} {number}")).collect();
                    let large = vec![1_u8; 200_000];
                    assert_eq!(small.len() + large.len(), 200_500);
                    Ok(())
                });
            }
            assert!(command.status().unwrap().success());
            // And without a closure, which does not fork.
            assert!(Command::new("true").status().unwrap().success());
        }
        end.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_limit_on_memory_gives_errors() {
    let _alone = alone();
    for megabytes in [192_u64, 700, 4000] {
        let mut command = child("child_under_a_limit");
        // SAFETY: only a system call.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: megabytes << 20, rlim_max: megabytes << 20 };
                if libc::setrlimit(libc::RLIMIT_AS, &limit) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        survives(&mut command);
    }
}

/// This program, to run one of its ignored tests and nothing beside it.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

fn survives(child: &mut Command) {
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("survived"), "{text}{output:?}");
}

#[test]
#[ignore = "run by `a_limit_on_memory_gives_errors`"]
fn child_under_a_limit() {
    let mut hoard: Vec<Vec<u8>> = Vec::with_capacity(10_000);
    // Large blocks, then smaller ones, until nothing is left.
    for size in [64 << 20, 1 << 20, 40_000, 10_000] {
        loop {
            let mut next = Vec::new();
            if hoard.len() == hoard.capacity() || next.try_reserve_exact(size).is_err() {
                break;
            }
            next.resize(size.min(4096), 1);
            hoard.push(next);
        }
    }
    assert!(Vec::<u8>::new().try_reserve_exact(64 << 20).is_err());
    drop(hoard);
    let mut again = Vec::<u8>::new();
    again.try_reserve_exact(32 << 20).expect("what was freed can be used again, in other sizes");
    println!("survived {}", collections(1) + thread::spawn(|| collections(2)).join().unwrap());
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn memory_goes_back_after_a_spike() {
    let _alone = alone();
    heap::release();
    let before = resident();
    let spike: Vec<Vec<u8>> = (0..200_000).map(|number| vec![1; 16 + number % 2000]).collect();
    let large = vec![1_u8; 100 << 20];
    let during = resident();
    assert!(during > before + (250 << 20), "{before} {during}");
    drop((spike, large));
    let returned = heap::stats().returned;
    heap::release();
    let after = resident();
    assert!(after < before + (8 << 20), "{before} {during} {after}");
    let stats = heap::stats();
    assert!(stats.returned > returned);
    assert!(stats.idle_pages < 1 << 20 && stats.in_use_pages < stats.in_use.bytes + stats.untracked.bytes + (16 << 20));

    // Without being asked, by what the program does anyway.
    let spike: Vec<Vec<u8>> = (0..200_000).map(|number| vec![1; 16 + number % 2000]).collect();
    drop(spike);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while resident() > before + (16 << 20) {
        assert!(std::time::Instant::now() < until, "{before} {}: {:?}", resident(), heap::stats());
        thread::sleep(std::time::Duration::from_millis(50));
        drop(vec![vec![1_u8; 1000]; 300]);
    }
}

/// A process of its own, in which nobody else comes along: neither another test nor what the harness prints.
#[test]
fn a_runtime_gives_back_what_an_idle_program_has_freed() {
    let _alone = alone();
    survives(&mut child("child_that_goes_idle"));
}

#[test]
#[ignore = "run by `a_runtime_gives_back_what_an_idle_program_has_freed`"]
fn child_that_goes_idle() {
    heap::release();
    let spike = || drop((0..40_000).map(|number| vec![1; 16 + number % 1000]).collect::<Vec<Vec<u8>>>());
    let idle = || heap::stats().idle_pages;
    spike();
    assert!(idle() > 8 << 20, "too little to be given back at once: {}", idle());
    let runtime = Runtime::builder().workers(2).build().unwrap();
    for round in 0..2 {
        if round == 1 {
            runtime.run(move || spawn(spike).join().unwrap());
        }
        // Nothing here allocates or frees.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while idle() > 1 << 20 {
            assert!(std::time::Instant::now() < until, "round {round}: {} bytes are still there", idle());
            thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    println!("survived");
}

/// Of blocks with the size that the sampling tests use: sampled, their sum, and freed.
static SAMPLED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static LIVE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
const MARKED: usize = 5000;
const MARKED_BLOCK: usize = 5120;

static HOOKS: sampling::Hooks = sampling::Hooks {
    allocated: |sample| {
        assert!(heap::in_untracked(), "hooks may allocate");
        if sample.requested == MARKED {
            assert_eq!(sample.size, MARKED_BLOCK);
            SAMPLED.fetch_add(1, Ordering::Relaxed);
        }
        let before = LIVE.lock().unwrap().insert(sample.address, sample.size);
        assert_eq!(before, None, "a block that is alive is not allocated");
        !sample.address as u64
    },
    freed: |address, size, kept| {
        assert_eq!(kept, !address as u64, "what was returned for this block");
        if size == MARKED_BLOCK {
            FREED.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(known) = LIVE.lock().unwrap().remove(&address) {
            assert_eq!(known, size);
        }
    },
};

#[test]
fn samples_are_told_and_their_frees_too() {
    let _alone = alone();
    sampling::install(&HOOKS);
    assert_eq!(sampling::rate(), 0);

    // Everything, with frees on another thread.
    sampling::set_rate(1);
    let blocks: Vec<Vec<u8>> = (0..1000).map(|_| Vec::with_capacity(MARKED)).collect();
    assert_eq!(SAMPLED.load(Ordering::Relaxed), 1000);
    // Any address may be asked about: inside of a block, behind the last one of a span, in no span.
    let starts = blocks.iter().map(|block| block.as_ptr() as usize);
    assert!(starts.clone().all(|start| sampling::kept(start + MARKED - 1) == Some(!start as u64)));
    let first = starts.min().unwrap();
    let around = (first - (1 << 22)..first + (1 << 22)).step_by(512);
    let mut words = around.filter_map(|address| Some((address, sampling::kept(address)?)));
    assert!(words.all(|(address, word)| !word as usize <= address), "a word is that of the block around it");
    thread::spawn(move || drop(blocks)).join().unwrap();
    assert_eq!(FREED.load(Ordering::Relaxed), 1000);
    // A block that grows was freed and allocated, in place or not.
    let mut block = Vec::<u8>::with_capacity(MARKED);
    block.reserve_exact(MARKED + 1);
    assert_eq!((SAMPLED.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed)), (1001, 1001));
    drop(block);
    drop(heap::untracked(|| Vec::<u8>::with_capacity(MARKED)));
    assert_eq!(SAMPLED.load(Ordering::Relaxed), 1001, "not the untracked ones");

    // One in 64 KiB: the number of samples is binomial.
    SAMPLED.store(0, Ordering::Relaxed);
    FREED.store(0, Ordering::Relaxed);
    sampling::set_rate(64 << 10);
    let count = 60_000;
    let mut ring: VecDeque<Vec<u8>> = VecDeque::new();
    for _ in 0..count {
        ring.push_back(Vec::with_capacity(MARKED));
        if ring.len() > 100 {
            ring.pop_front();
        }
    }
    ring.clear();
    let probability = 1.0 - (-(MARKED as f64) / 65536.0).exp();
    let (mean, deviation) = (count as f64 * probability, (count as f64 * probability * (1.0 - probability)).sqrt());
    let sampled = SAMPLED.load(Ordering::Relaxed);
    assert!((sampled as f64 - mean).abs() < 5.0 * deviation, "{sampled} of {mean} +- {deviation}");
    assert_eq!(FREED.load(Ordering::Relaxed), sampled);

    // Large blocks, which are sampled more often, and off.
    sampling::set_rate(1);
    let large = vec![0_u8; 1 << 20];
    let address = large.as_ptr() as usize;
    assert_eq!(LIVE.lock().unwrap().get(&address), Some(&(1 << 20)));
    drop(large);
    assert_eq!(LIVE.lock().unwrap().get(&address), None);
    // In place: it was freed with the size that it had, as the hook sees.
    let mut large = Vec::<u8>::with_capacity(1 << 20);
    let address = large.as_ptr() as usize;
    large.shrink_to(1 << 19);
    assert_eq!(large.as_ptr() as usize, address);
    assert_eq!(LIVE.lock().unwrap().get(&address), Some(&(1 << 19)));
    large.reserve_exact(3 << 19);
    let address = large.as_ptr() as usize;
    assert_eq!(LIVE.lock().unwrap().get(&address), Some(&(3 << 19)));
    drop(large);
    sampling::set_rate(0);
    SAMPLED.store(0, Ordering::Relaxed);
    drop((0..100).map(|_| Vec::<u8>::with_capacity(MARKED)).collect::<Vec<_>>());
    thread::spawn(|| drop(Vec::<u8>::with_capacity(MARKED))).join().unwrap();
    assert_eq!(SAMPLED.load(Ordering::Relaxed), 0);
}

/// Threads allocate and free each other's blocks while spans get their first sample and lose their last: every sample is told
/// when it is freed, with what was kept.
#[test]
fn samples_come_and_go_in_spans_that_threads_share() {
    survives(&mut child("child_that_samples_on_several_threads"));
}

#[test]
#[ignore = "run by `samples_come_and_go_in_spans_that_threads_share`"]
fn child_that_samples_on_several_threads() {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    static GONE: AtomicU64 = AtomicU64::new(0);
    static COUNTING: sampling::Hooks = sampling::Hooks {
        allocated: |sample| {
            TAKEN.fetch_add(1, Ordering::Relaxed);
            !sample.address as u64
        },
        freed: |address, _, kept| {
            assert_eq!(kept, !address as u64, "what was returned for this block");
            GONE.fetch_add(1, Ordering::Relaxed);
        },
    };
    sampling::install(&COUNTING);
    // A block in some dozens: so most spans have none, one or two samples at a time.
    sampling::set_rate(4 << 10);
    let exchange: Vec<Mutex<Vec<Vec<u8>>>> = (0..8).map(|_| Mutex::new(Vec::new())).collect();
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let exchange = &exchange;
            scope.spawn(move || {
                let mut random = thread as u64 + 1;
                let mut mine: Vec<Vec<u8>> = Vec::new();
                for step in 0..200_000_usize {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = (random >> 33) as usize;
                    match at % 4 {
                        0 | 1 => mine.push(Vec::with_capacity(16 << (at / 4 % 5))),
                        2 if !mine.is_empty() => drop(mine.swap_remove(at / 4 % mine.len())),
                        _ => std::mem::swap(&mut *exchange[at / 4 % exchange.len()].lock().unwrap(), &mut mine),
                    }
                    if step % 1000 == 0 {
                        mine.truncate(100);
                    }
                }
            });
        }
    });
    drop(exchange);
    sampling::set_rate(0);
    let (taken, gone) = (TAKEN.load(Ordering::Relaxed), GONE.load(Ordering::Relaxed));
    println!("{taken} samples");
    assert!(taken > 1000, "{taken}");
    // What the threads and the harness hold on to.
    assert!(gone <= taken && taken - gone < 50, "{gone} of {taken}");
    assert_eq!(sampling::lost(), 0);
    println!("survived");
}

/// The figures are the process's, and the harness ends threads and frees what they have printed at any moment.
#[test]
fn figures_follow_what_the_program_does() {
    survives(&mut child("child_that_compares_figures"));
}

#[test]
#[ignore = "run by `figures_follow_what_the_program_does`"]
fn child_that_compares_figures() {
    let class = |stats: &heap::Stats| *stats.by_size.iter().find(|class| class.size == MARKED_BLOCK).unwrap();
    let before = heap::stats();
    let blocks: Vec<Vec<u8>> = (0..500).map(|_| Vec::with_capacity(MARKED)).collect();
    let during = heap::stats();
    assert_eq!(class(&during).allocated - class(&before).allocated, 500);
    assert_eq!(class(&during).freed, class(&before).freed);
    assert!(during.in_use.bytes >= before.in_use.bytes + 500 * MARKED_BLOCK as u64);
    assert!(during.in_use_pages >= during.in_use.bytes);
    thread::spawn(move || drop(blocks)).join().unwrap();
    let after = heap::stats();
    assert_eq!(class(&after).freed - class(&before).freed, 500, "counted where it was freed");
    assert!(after.allocated.bytes > before.allocated.bytes + 2_500_000);
    assert!(after.reserved > after.in_use_pages + after.idle_pages + after.released_pages);
    println!("survived");
}
