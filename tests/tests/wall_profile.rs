//! Does the wall-clock profile show where tasks spend their time, in the right shares, without disturbing them?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_profiler::{
    profile::encode,
    symbolize,
    wall::{self, Capture, StartError},
};
use greenprof_runtime::{
    Runtime,
    hooks::{self, Instrument, Interest, TaskView},
    labels, sleep, spawn,
    sync::{Chan, WaitGroup},
};
use greenprof_tests::{
    cpu_profiler, go,
    pprof::{self, Sample},
};

/// There is one wall profiler in a process, too.
fn wall_profiler() -> impl Drop {
    cpu_profiler()
}

fn encoded(capture: &Capture) -> Vec<u8> {
    encode::encode(&capture.profile, &mut symbolize::shared().lock()).expect("encodes")
}

fn resolved(capture: &Capture) -> Vec<Sample> {
    pprof::samples(&encoded(capture))
}

fn sum(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> i64 {
    samples.iter().filter(|sample| wanted(sample)).map(|sample| sample.values[0]).sum()
}

#[inline(never)]
fn keep_busy(time: Duration) -> Duration {
    let start = Instant::now();
    let mut x = 1_u64;
    loop {
        for i in 0..500 {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
        }
        let took = start.elapsed();
        if took >= time {
            return took;
        }
    }
}

#[inline(never)]
fn rest(time: Duration) -> Duration {
    let start = Instant::now();
    sleep(time);
    start.elapsed()
}

/// Nanoseconds of each kind that a task says it has spent.
#[derive(Default)]
struct Truth {
    busy: AtomicU64,
    asleep: AtomicU64,
}

impl Truth {
    /// While the process as a whole stands still, nobody can look at it: such a time counts for neither.
    fn add(kind: &AtomicU64, took: Duration) {
        if took < Duration::from_millis(100) {
            kind.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[test]
fn shares_of_busy_and_sleeping_time_are_right() {
    const CHILD: &str = "GREENPROF_WALL_CHILD";
    let _wall = wall_profiler();
    // In a process of its own: thousands of unused stacks that other tests leave make each look later.
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "shares_of_busy_and_sleeping_time_are_right"]).env(CHILD, "1");
        let output = child.output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let truth = Arc::new(Truth::default());
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        let task = {
            let (stop, truth) = (stop.clone(), truth.clone());
            labels::with(&[("task", "mixed")], || {
                spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // As long as a period: looks at fixed moments would always see the same.
                        Truth::add(&truth.busy, keep_busy(Duration::from_millis(2)));
                        Truth::add(&truth.asleep, rest(Duration::from_millis(8)));
                    }
                })
            })
        };
        let session = wall::start(wall::DEFAULT_PERIOD).unwrap();
        assert!(matches!(wall::start(wall::DEFAULT_PERIOD), Err(StartError::Busy)));
        let before = [&truth.busy, &truth.asleep].map(|time| time.load(Ordering::Relaxed));
        sleep(Duration::from_secs(8));
        let capture = session.stop();
        let after = [&truth.busy, &truth.asleep].map(|time| time.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        task.join().unwrap();
        truth.busy.store(after[0] - before[0], Ordering::Relaxed);
        truth.asleep.store(after[1] - before[1], Ordering::Relaxed);
        capture
    });
    println!("{}", capture.summary);
    let samples = resolved(&capture);
    let of_task = |sample: &Sample| sample.label("task") == Some("mixed");
    let all = sum(&samples, of_task);
    assert_eq!(all as u64, capture.summary.looks, "one task, in every look");
    let asleep = sum(&samples, |s| of_task(s) && s.calls("rest"));
    let waiting = sum(&samples, |s| of_task(s) && s.label("state") == Some("waiting"));
    let reasons = sum(&samples, |s| of_task(s) && s.label("wait_reason") == Some("sleep"));
    assert_eq!(waiting, reasons, "it waits for nothing else");
    let (busy, truly_asleep) = (truth.busy.load(Ordering::Relaxed), truth.asleep.load(Ordering::Relaxed));
    let truth = truly_asleep as f64 / (busy + truly_asleep) as f64;
    let measured = asleep as f64 / all as f64;
    println!("asleep for {truth:.3}, measured {measured:.3}");
    // Five standard errors at most on a free machine. A look that comes late is one at another moment, which is the less
    // random the more of them do.
    let missed = capture.summary.missed as f64 / (capture.summary.missed + capture.summary.looks) as f64;
    let error = (truth * (1.0 - truth) / all as f64).sqrt();
    let allowed = 0.03 + 2.5 * error + 0.1 * missed;
    assert!((measured - truth).abs() < allowed, "{measured} {truth} {allowed}");
    let computing = sum(&samples, |s| of_task(s) && s.calls("keep_busy") && s.label("state") == Some("running"));
    assert!(computing > 0, "a task that runs has its stack");
}

/// Counts the tasks that were woken or resumed.
#[derive(Default)]
struct Moves(AtomicU64);

impl Instrument for Moves {
    fn task_woken(&self, _: TaskView) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn task_resumed(&self, _: TaskView) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

static MOVES: Moves = Moves(AtomicU64::new(0));

#[inline(never)]
fn wait_for_nothing(gate: &Chan<()>) {
    let _ = gate.recv();
}

#[test]
fn waiting_tasks_are_all_seen_and_none_is_woken() {
    let _wall = wall_profiler();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let gate = Chan::<()>::new();
    let tasks: Vec<_> = runtime.run(|| {
        let waiting = WaitGroup::new();
        let tasks = (0..50)
            .map(|_| {
                let (gate, waiting) = (gate.clone(), waiting.clone());
                waiting.add(1);
                labels::with(&[("task", "waiting")], || {
                    spawn(move || {
                        waiting.done();
                        wait_for_nothing(&gate);
                    })
                })
            })
            .collect();
        waiting.wait();
        sleep(Duration::from_millis(100)); // until the last one has parked
        tasks
    });
    let installed = hooks::install(&MOVES, Interest::SCHEDULE).unwrap();
    let before = MOVES.0.load(Ordering::Relaxed);
    let session = wall::start(Duration::from_millis(5)).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let capture = session.stop();
    let moves = MOVES.0.load(Ordering::Relaxed) - before;
    drop(installed);
    println!("{}", capture.summary);
    let samples = resolved(&capture);
    let seen = sum(&samples, |s| {
        s.label("task") == Some("waiting")
            && s.label("state") == Some("waiting")
            && s.label("wait_reason") == Some("chan receive")
            && s.calls("wait_for_nothing")
    });
    assert!(capture.summary.looks > 0);
    assert_eq!(seen as u64, 50 * capture.summary.looks);
    assert_eq!(moves, 0, "no task was woken or resumed while all of them waited");
    gate.close();
    runtime.run(|| tasks.into_iter().for_each(|task| task.join().unwrap()));
}

#[test]
fn a_choice_of_many_tasks_stands_for_all_of_them() {
    const TASKS: i64 = 6000;
    let _wall = wall_profiler();
    let gate = Chan::<()>::new();
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        let waiting = WaitGroup::new();
        // A quarter of them waits for another thing, all in neighbouring stacks.
        let tasks: Vec<_> = (0..TASKS)
            .map(|i| {
                let (gate, waiting) = (gate.clone(), waiting.clone());
                waiting.add(1);
                labels::with(&[("task", if i % 4 == 0 { "few" } else { "many" })], || {
                    spawn(move || {
                        waiting.done();
                        wait_for_nothing(&gate);
                    })
                })
            })
            .collect();
        waiting.wait();
        let session = wall::start(wall::DEFAULT_PERIOD).unwrap();
        sleep(Duration::from_secs(3));
        let capture = session.stop();
        gate.close();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        capture
    });
    println!("{}", capture.summary);
    let summary = &capture.summary;
    assert!(summary.seen < 400 * summary.looks, "a look is bounded: {summary}");
    let samples = resolved(&capture);
    let of = |label: &str| sum(&samples, |s| s.label("task") == Some(label)) as f64 / summary.looks as f64;
    let (few, many) = (of("few"), of("many"));
    println!("{few:.0} and {many:.0}");
    // Some 60 of 240 tasks a look are of the smaller kind: 250 looks give it to half a per cent.
    let looks = summary.looks as f64;
    let error = 5.0 * (TASKS as f64 / 250.0) * (60.0 / looks).sqrt();
    assert!((few - 1500.0).abs() < error.max(15.0), "{few}, {error}");
    assert!((few + many - TASKS as f64).abs() < 0.02 * TASKS as f64, "{}", few + many);
}

#[test]
fn gos_tool_reads_it_and_narrows_by_state() {
    if !go::available("gos_tool_reads_it_and_narrows_by_state") {
        return;
    }
    let _wall = wall_profiler();
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let task = {
            let stop = stop.clone();
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    keep_busy(Duration::from_millis(5));
                    rest(Duration::from_millis(5));
                }
            })
        };
        let session = wall::start(wall::DEFAULT_PERIOD).unwrap();
        sleep(Duration::from_secs(2));
        let capture = session.stop();
        stop.store(true, Ordering::Relaxed);
        task.join().unwrap();
        capture
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wall.pb.gz");
    std::fs::write(&file, encoded(&capture)).unwrap();
    let file = file.to_str().unwrap();
    let all = go::pprof(["-top", file]);
    assert!(all.contains("Type: wall"), "{all}");
    let top = |focus: &str| go::pprof(["-top", focus, file]);
    let calls = |text: &str, name: &str| go::top_rows(text).iter().any(|row| row.name.ends_with(name));
    // A task that sleeps has its processor until it has parked: that part of `rest` runs.
    assert!(calls(&top("-tagfocus=state=running"), "wall_profile::keep_busy"));
    let waiting = top("-tagfocus=wait_reason=sleep");
    assert!(calls(&waiting, "wall_profile::rest") && !calls(&waiting, "wall_profile::keep_busy"), "{waiting}");
    let states = go::pprof(["-tags", file]);
    assert!(states.contains("state:") && states.contains("waiting"), "{states}");
}
