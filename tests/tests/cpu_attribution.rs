//! Does CPU time land where it was spent: in the right function, under the right labels, on tasks that move?

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use greenprof_profiler::{
    cpu::{self, Capture},
    profile::encode,
    symbolize,
};
use greenprof_runtime::{Runtime, labels, sleep, spawn, sync::Chan};
use greenprof_tests::{
    cpu_profiler,
    pprof::{self, Sample},
};

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Uses so much CPU time of the thread it runs on, and gives exactly how much it was.
fn use_cpu(amount: Duration) -> Duration {
    let start = thread_cpu();
    let mut x = 1_u64;
    loop {
        for i in 0..2_000 {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
        }
        let used = thread_cpu() - start;
        if used >= amount {
            return used;
        }
    }
}

/// Functions that are told apart by their names; each with a constant of its own, for the compiler merges equal ones.
macro_rules! burning_functions {
    ($($name:ident = $number:literal),*) => {
        $(#[inline(never)]
        fn $name(amount: Duration) -> Duration {
            std::hint::black_box($number);
            std::hint::black_box(use_cpu(amount))
        })*
    };
}

burning_functions!(burn_much = 100, burn_little = 200);
burning_functions!(work_0 = 0, work_1 = 1, work_2 = 2, work_3 = 3, work_4 = 4, work_5 = 5);

fn resolved(capture: &Capture) -> Vec<Sample> {
    let bytes = encode::encode(&capture.profile, &mut symbolize::shared().lock()).expect("encodes");
    pprof::samples(&bytes)
}

fn weight(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> i64 {
    samples.iter().filter(|sample| wanted(sample)).map(|sample| sample.values[0]).sum()
}

/// A task that burns `amount` in each turn until told to stop, and notes which threads it ran on and what it used.
fn burner(
    label: &'static str,
    burn: fn(Duration) -> Duration,
    turns: Chan<()>,
    amount: Duration,
    used: Arc<AtomicU64>,
) -> greenprof_runtime::JoinHandle<HashSet<ThreadId>> {
    labels::with(&[("burner", label)], || {
        spawn(move || {
            let mut threads = HashSet::new();
            while turns.recv().is_some() {
                threads.insert(std::thread::current().id());
                used.fetch_add(burn(amount).as_nanos() as u64, Ordering::Relaxed);
            }
            threads
        })
    })
}

#[test]
fn an_80_20_split_is_measured_within_5_points() {
    let _cpu = cpu_profiler();
    let (much, little) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        // Labels that must not appear: these tasks use no CPU while the profile runs.
        let gate = Chan::<()>::new();
        for _ in 0..100 {
            let gate = gate.clone();
            labels::with(&[("burner", "blocked")], || spawn(move || gate.recv()));
        }
        labels::with(&[("burner", "asleep")], || spawn(|| sleep(Duration::from_secs(20))));
        sleep(Duration::from_millis(50));

        let turns = [Chan::with_capacity(1), Chan::with_capacity(1)];
        let tasks = [
            burner("much", burn_much, turns[0].clone(), Duration::from_millis(8), much.clone()),
            burner("little", burn_little, turns[1].clone(), Duration::from_millis(2), little.clone()),
        ];
        let running = Arc::new(AtomicBool::new(true));
        let driver = {
            let (turns, running) = (turns.clone(), running.clone());
            spawn(move || {
                while running.load(Ordering::Relaxed) {
                    turns.iter().for_each(|turn| turn.send(()).unwrap());
                }
                turns.iter().for_each(|turn| {
                    turn.close();
                });
            })
        };
        let session = cpu::start(cpu::DEFAULT_HZ).unwrap();
        let before = [&much, &little].map(|used| used.load(Ordering::Relaxed));
        sleep(Duration::from_secs(5));
        let capture = session.stop();
        let after = [&much, &little].map(|used| used.load(Ordering::Relaxed));
        running.store(false, Ordering::Relaxed);
        driver.join().unwrap();
        tasks.into_iter().for_each(|task| {
            task.join().unwrap();
        });
        gate.close();
        let [much, little] = [after[0] - before[0], after[1] - before[1]];
        let truth = 100.0 * much as f64 / (much + little) as f64;
        assert!((truth - 80.0).abs() < 1.0, "the load itself is {truth:.1} to {:.1}", 100.0 - truth);
        capture
    });
    println!("{}", capture.summary);
    let samples = resolved(&capture);
    let much = weight(&samples, |sample| sample.calls("burn_much"));
    let little = weight(&samples, |sample| sample.calls("burn_little"));
    let share = 100.0 * much as f64 / (much + little) as f64;
    println!("much {much}, little {little}: {share:.1} %");
    assert!(much + little > 200, "only {} samples: the machine gave the test no CPU", much + little);
    assert!((share - 80.0).abs() <= 5.0, "80 % were measured as {share:.1} %");

    for label in ["blocked", "asleep"] {
        assert_eq!(weight(&samples, |sample| sample.label("burner") == Some(label)), 0, "{label} tasks use no CPU");
    }
    for sample in &samples {
        let expected = match (sample.calls("burn_much"), sample.calls("burn_little")) {
            (true, false) => Some("much"),
            (false, true) => Some("little"),
            _ => continue,
        };
        assert_eq!(sample.label("burner"), expected, "{sample:?}");
    }
}

#[test]
fn labels_follow_tasks_that_move_between_threads() {
    const TASKS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
    let works: [fn(Duration) -> Duration; 6] = [work_0, work_1, work_2, work_3, work_4, work_5];

    let _cpu = cpu_profiler();
    let session = cpu::start(cpu::MAX_HZ).unwrap();
    let moved = Runtime::builder().workers(2).build().unwrap().run(|| {
        let tasks = std::array::from_fn::<_, 6, _>(|i| {
            labels::with(&[("task", TASKS[i])], || {
                spawn(move || {
                    let (mut threads, mut moves, mut used) = (None, 0, Duration::ZERO);
                    while used < Duration::from_millis(300) {
                        used += works[i](Duration::from_micros(300));
                        let thread = std::thread::current().id();
                        moves += usize::from(threads.replace(thread).is_some_and(|before| before != thread));
                        // Comes back through the queue that all workers share.
                        sleep(Duration::from_micros(10));
                    }
                    moves
                })
            })
        });
        tasks.into_iter().map(|task| task.join().unwrap()).sum::<usize>()
    });
    let capture = session.stop();
    println!("{moved} moves\n{}", capture.summary);
    assert!(moved > 0, "no task has moved: the test shows nothing");
    let mut agreeing = 0;
    for sample in resolved(&capture) {
        let Some(number) = (0..TASKS.len()).find(|number| sample.calls(&format!("work_{number}"))) else { continue };
        assert_eq!(sample.label("task"), Some(TASKS[number]), "{sample:?}");
        agreeing += sample.values[0];
    }
    assert!(agreeing > 100, "only {agreeing} samples in the tasks");
}
