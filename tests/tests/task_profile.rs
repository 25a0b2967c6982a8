//! The task profile: are all tasks there, with their stacks and what they wait for, and do they go on meanwhile?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_profiler::serve;
use greenprof_runtime::{
    JoinHandle, Runtime, labels, sleep, spawn,
    sync::{Chan, Mutex, WaitGroup},
    task, yield_now,
};
use greenprof_tests::{StopOnDrop, client, pprof};
use parking_lot::{Mutex as ThreadMutex, MutexGuard as ThreadMutexGuard};

/// The profile shows the tasks of the whole process, so these tests go one after the other.
fn alone() -> ThreadMutexGuard<'static, ()> {
    static LOCK: ThreadMutex<()> = ThreadMutex::new(());
    LOCK.lock()
}

#[inline(never)]
fn wait_at_the_gate(gate: &Chan<()>) {
    std::hint::black_box(gate.recv());
}

#[test]
fn ten_thousand_blocked_tasks_are_counted_while_others_go_on() {
    const BLOCKED: usize = 10_000;
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let turns = Arc::new(AtomicU64::new(0));
    let running = Arc::new(AtomicBool::new(true));
    Runtime::builder().workers(2).build().unwrap().run(|| {
        let gate = Chan::new();
        let blocked: Vec<JoinHandle<()>> = (0..BLOCKED)
            .map(|_| {
                let gate = gate.clone();
                spawn(move || wait_at_the_gate(&gate))
            })
            .collect();
        let active: Vec<JoinHandle<()>> = (0..4)
            .map(|_| {
                let (turns, running) = (turns.clone(), running.clone());
                spawn(move || {
                    while running.load(Ordering::Relaxed) {
                        turns.fetch_add(1, Ordering::Relaxed);
                        yield_now();
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(50));

        // The main task, the blocked and the active ones. The first request reads the program's symbols.
        let expected = BLOCKED + active.len() + 1;
        let probe = std::thread::spawn(move || {
            let mut times = Vec::new();
            for round in 0..6 {
                let before = turns.load(Ordering::Relaxed);
                let start = Instant::now();
                let answer = client::get(address, "/debug/pprof/goroutine?debug=1");
                let elapsed = start.elapsed();
                let moved = turns.load(Ordering::Relaxed) - before;
                assert_eq!(answer.status, 200);
                let first = answer.text().lines().next().unwrap();
                assert_eq!(first, format!("goroutine profile: total {expected}"), "round {round}");
                let record = answer.text().lines().find(|line| line.starts_with(&format!("{BLOCKED} @ ")));
                assert!(record.is_some(), "no record of all blocked tasks:\n{}", &answer.text()[..2000]);
                assert!(answer.text().contains("wait_at_the_gate"));
                assert!(moved > 0, "no task has run during the {elapsed:?} of the request");
                times.push(elapsed);
            }
            times
        });
        while !probe.is_finished() {
            sleep(Duration::from_millis(5));
        }
        let times = probe.join().unwrap();
        running.store(false, Ordering::Relaxed);
        gate.close();
        blocked.into_iter().chain(active).for_each(|task| task.join().unwrap());
        // A report, not an assertion: timings are for the benches.
        println!("goroutine?debug=1 with {expected} tasks took {times:?}");
    });
}

#[test]
fn every_wait_has_its_reason_and_its_place() {
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    Runtime::builder().workers(2).build().unwrap().run(|| {
        let (empty, full) = (Chan::<u8>::new(), Chan::<u8>::new());
        let lock = Arc::new(Mutex::new(()));
        let group = WaitGroup::new();
        group.add(1);
        let guard = lock.lock();
        let named = |name: &str| task::Builder::new().name(name);
        let mut tasks = Vec::new();
        labels::with(&[("kind", "waiting task")], || {
            let (a, b, c, d) = (empty.clone(), full.clone(), lock.clone(), group.clone());
            tasks.push(named("receiver").spawn(move || assert_eq!(a.recv(), None)).unwrap());
            tasks.push(named("sender").spawn(move || assert!(b.send(1).is_err())).unwrap());
            tasks.push(named("locker").spawn(move || drop(c.lock())).unwrap());
            tasks.push(named("waiter").spawn(move || d.wait()).unwrap());
            tasks.push(named("sleeper").spawn(|| sleep(Duration::from_secs(2))).unwrap());
        });
        let (joined, gate) = (empty.clone(), full.clone());
        let inner = spawn(move || joined.recv());
        tasks.push(named("joiner").spawn(move || drop((inner.join(), gate))).unwrap());
        sleep(Duration::from_millis(50));

        let dump = fetch(address, "/debug/pprof/goroutine?debug=2");
        for (name, reason) in [
            ("receiver", "chan receive"),
            ("sender", "chan send"),
            ("locker", "sync.Mutex.Lock"),
            ("waiter", "sync.WaitGroup.Wait"),
            ("sleeper", "sleep"),
        ] {
            let header = format!("[{reason}] {{name: {name}, kind: \"waiting task\"}}:");
            let task = dump.split("\n\n").find(|task| task.lines().next().is_some_and(|l| l.ends_with(&header)));
            let task = task.unwrap_or_else(|| panic!("no task with {header}:\n{dump}"));
            assert!(task.contains("every_wait_has_its_reason_and_its_place"), "{task}");
            assert!(task.contains("tests/tests/task_profile.rs:"), "{task}");
            assert!(task.contains("created by task_profile::every_wait_has_its_reason"), "{task}");
        }
        assert!(dump.contains("[task join] {name: joiner}:"), "{dump}");

        let proto = client_samples(address, "/debug/pprof/goroutine");
        let sample = proto.iter().find(|sample| sample.label("task_name") == Some("locker")).unwrap();
        assert_eq!(sample.label("wait_reason"), Some("sync.Mutex.Lock"));
        assert_eq!(sample.label("kind"), Some("waiting task"));
        assert!(sample.label("spawned_at").unwrap().contains("tests/tests/task_profile.rs:"));
        assert!(sample.calls("Mutex") && sample.calls("every_wait_has_its_reason_and_its_place"), "{sample:?}");

        let text = fetch(address, "/debug/pprof/goroutine?debug=1");
        assert!(text.contains("# labels: {\"kind\":\"waiting task\"}"), "{text}");
        assert!(text.contains("# state: sync.WaitGroup.Wait"), "{text}");
        assert!(text.contains("# names: waiter"), "{text}");

        drop(guard);
        group.done();
        empty.close();
        full.close();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[inline(never)]
fn spin_until(stop: &AtomicBool, turns: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn running_tasks_have_their_stacks() {
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    // On a thread of its own: both workers are in endless loops, and the port still answers.
    let stop = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicU64::new(0));
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let handle = runtime.handle();
    let stopper = StopOnDrop(stop.clone());
    let tasks: Vec<_> = (0..2)
        .map(|i| {
            let (stop, turns) = (stop.clone(), turns.clone());
            handle
                .spawn_with(task::Builder::new().name(format!("spinner {i}")), move || spin_until(&stop, &turns))
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    let dump = fetch(address, "/debug/pprof/goroutine?debug=2");
    let before = turns.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    assert!(turns.load(Ordering::Relaxed) > before, "being asked does not stop them");
    drop(stopper);
    tasks.into_iter().for_each(|task| task.join().unwrap());
    for i in 0..2 {
        let header = format!("[running] {{name: \"spinner {i}\"}}:");
        let task =
            dump.split("\n\n").find(|task| task.contains(&header)).unwrap_or_else(|| panic!("{header}:\n{dump}"));
        assert!(task.contains("spin_until"), "{task}");
    }
}

fn fetch(address: std::net::SocketAddr, path: &'static str) -> String {
    // A plain thread: the client blocks, which a task should not.
    let answer = std::thread::spawn(move || client::get(address, path)).join().unwrap();
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

fn client_samples(address: std::net::SocketAddr, path: &'static str) -> Vec<pprof::Sample> {
    let answer = std::thread::spawn(move || client::get(address, path)).join().unwrap();
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"goroutine\""));
    pprof::samples(&answer.body)
}
