//! Leaked tasks are reclaimed: destructors run, memory and locks come back, and who must not be unwound is left alone.
//!
//! What is to leak is made by a task that has ended when it is looked for, so nothing stale hides it.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_profiler::{
    http::DebugServer,
    leak::{
        Leak, Report,
        reclaim::{self, Outcome, Reclamation, Refusal, reclaim_if},
    },
};
use greenprof_runtime::{
    JoinHandle,
    heap::{self, Heap},
    spawn,
    sync::{Chan, Condvar, Mutex, Once, RawMutex, RwLock, Semaphore, WaitGroup},
    task::Reclaimed,
    world,
};
use greenprof_tests::{
    client,
    leaks::{alone, go, made, reclaim_all, reclaim_options, report, runtime, settle},
};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Whether the task of that name is reported, and what has become of it.
fn outcome<'r>(report: &Report, reclamation: &'r Reclamation, name: &str) -> &'r Outcome {
    let leak = report.leaked().iter().find(|leak| leak.task.name.as_deref() == Some(name));
    let leak = leak.unwrap_or_else(|| panic!("{name} is not among {:?}", names(report)));
    reclamation.outcome(leak.id()).expect("it was to be reclaimed")
}

fn names(report: &Report) -> Vec<&str> {
    report.leaked().iter().map(|leak| leak.task.name.as_deref().unwrap_or("?")).collect()
}

fn is_named(name: &str) -> impl Fn(&Leak) -> bool {
    move |leak| leak.task.name.as_deref() == Some(name)
}

/// Counts when it is dropped.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn ten_thousand_tasks_give_everything_back() {
    let _alone = alone();
    const COUNT: usize = 10_000;
    let runtime = runtime();
    let dropped = Arc::new(AtomicUsize::new(0));
    let leak = |dropped: &Arc<AtomicUsize>| {
        made(&runtime, || {
            for _ in 0..COUNT {
                let (channel, counts) = (Chan::<u8>::new(), Counts(dropped.clone()));
                let _ = spawn(move || {
                    let kept = vec![7_u8; 1000];
                    let received = channel.recv();
                    drop(counts);
                    (kept, received)
                });
            }
        });
        settle(&runtime, COUNT);
    };
    // Once, so that tables and caches have their size.
    leak(&dropped);
    let first = report(&runtime);
    // A few may be hidden by what a worker has left on its stack.
    assert!(first.leaked().len() > COUNT - COUNT / 100, "{} of {COUNT} found", first.leaked().len());
    let reclamation = reclaim_all(&first);
    assert_eq!(reclamation.reclaimed(), first.leaked().len(), "{:?}", unusual(&reclamation));
    assert_eq!(dropped.load(Ordering::SeqCst), first.leaked().len());
    let (stacks, in_use) = (world::tasks::stacks(), heap::stats().in_use.objects);
    drop(first);

    leak(&dropped);
    assert!(world::tasks::stacks() < stacks + COUNT / 2, "stacks are used again");
    let second = report(&runtime);
    let reclamation = reclaim_all(&second);
    assert_eq!(reclamation.reclaimed(), second.leaked().len(), "{:?}", unusual(&reclamation));
    drop(second);
    let after = heap::stats().in_use.objects;
    assert!(after < in_use + COUNT as u64 / 2, "{in_use} blocks before, {after} after");
    assert!(report(&runtime).leaked().len() < COUNT / 100);
}

fn unusual(reclamation: &Reclamation) -> Vec<&Outcome> {
    let mut others: Vec<&Outcome> = reclamation
        .tasks
        .iter()
        .map(|(_, outcome)| outcome)
        .filter(|outcome| **outcome != Outcome::Reclaimed)
        .collect();
    others.truncate(5);
    others
}

/// One task for each kind of wait, each with something to drop.
#[test]
fn every_wait_is_left() {
    let _alone = alone();
    let runtime = runtime();
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = || Counts(dropped.clone());
    let joins = made(&runtime, || {
        let mut joins: Vec<JoinHandle<()>> = Vec::new();
        let mut add = |name: &str, wait: Box<dyn FnOnce() + Send>| {
            let counts = counts();
            joins.push(go(name, move || {
                wait();
                drop(counts);
            }));
        };
        add(
            "recv",
            Box::new(|| {
                Chan::<u8>::new().recv();
            }),
        );
        let value = counts();
        add("send", Box::new(move || drop(Chan::new().send(value))));
        add(
            "nil",
            Box::new(|| {
                Chan::<u8>::nil().recv();
            }),
        );
        add("empty select", Box::new(|| greenprof_runtime::select! {}));
        let value = counts();
        add(
            "select",
            Box::new(move || {
                let (one, other) = (Chan::<u8>::new(), Chan::new());
                greenprof_runtime::select! {
                    recv(one) -> _ => {},
                    send(other, value) -> _ => {},
                }
            }),
        );
        add(
            "mutex",
            Box::new(|| {
                let lock = Mutex::new(());
                let _held = lock.lock();
                drop(lock.lock());
            }),
        );
        add(
            "raw mutex",
            Box::new(|| {
                let lock = RawMutex::new();
                lock.lock();
                lock.lock();
            }),
        );
        add(
            "reader",
            Box::new(|| {
                let lock = RwLock::new(());
                let _held = lock.write();
                drop(lock.read());
            }),
        );
        add(
            "writer",
            Box::new(|| {
                let lock = RwLock::new(());
                let _held = lock.read();
                drop(lock.write());
            }),
        );
        add(
            "condvar",
            Box::new(|| {
                let (lock, changed) = (Mutex::new(()), Condvar::new());
                drop(changed.wait(lock.lock()));
            }),
        );
        add(
            "wait group",
            Box::new(|| {
                let group = WaitGroup::new();
                group.add(1);
                group.wait();
            }),
        );
        add("semaphore", Box::new(|| drop(Semaphore::new(0).acquire())));
        add(
            "once",
            Box::new(|| {
                let once = Once::new();
                once.call_once(|| once.call_once(|| {}));
            }),
        );
        let inner = counts();
        add(
            "join",
            Box::new(move || {
                let joined = go("joined", move || {
                    let _inner = inner;
                    Chan::<u8>::new().recv()
                });
                let _ = joined.join();
            }),
        );
        joins
    });
    settle(&runtime, joins.len() + 1);
    let report = report(&runtime);
    let reclamation = reclaim_all(&report);
    for name in [
        "recv",
        "send",
        "nil",
        "empty select",
        "select",
        "mutex",
        "raw mutex",
        "reader",
        "writer",
        "condvar",
        "wait group",
        "semaphore",
        "once",
        "join",
        "joined",
    ] {
        assert_eq!(*outcome(&report, &reclamation, name), Outcome::Reclaimed, "{name}");
    }
    assert_eq!(dropped.load(Ordering::SeqCst), joins.len() + 3, "with two values that were to be sent, and one inside");
    for join in joins {
        let (id, payload) = (join.id(), join.join().expect_err("it was unwound"));
        assert_eq!(payload.downcast_ref::<Reclaimed>().expect("no panic").task(), id);
    }
}

#[test]
fn locks_of_a_deadlock_are_free_again() {
    let _alone = alone();
    let runtime = runtime();
    let locks = Arc::new([Mutex::new(0), Mutex::new(0)]);
    made(&runtime, || {
        let ready = WaitGroup::new();
        ready.add(2);
        for (name, first) in [("one", 0), ("other", 1)] {
            let (locks, ready) = (locks.clone(), ready.clone());
            let _: JoinHandle<()> = go(name, move || {
                let mut held = locks[first].lock();
                ready.done();
                ready.wait();
                *held += *locks[1 - first].lock();
            });
        }
    });
    settle(&runtime, 2);
    let report = report(&runtime);
    assert_eq!(report.deadlocks.len(), 1, "{:?}", names(&report));
    let reclamation = reclaim_all(&report);
    for name in ["one", "other"] {
        assert_eq!(*outcome(&report, &reclamation, name), Outcome::Reclaimed);
    }
    assert!(locks.iter().all(|lock| lock.try_lock().is_some()));
    assert_eq!(Arc::strong_count(&locks), 1);
}

/// Readers wait because a writer does. When it is taken away, they join those who read.
#[test]
fn who_waited_only_for_a_reclaimed_task_goes_on() {
    let _alone = alone();
    let runtime = runtime();
    let lock = Arc::new(RwLock::new(7));
    let (value, reads) = made(&runtime, || {
        let (holder, writer, reader) = (lock.clone(), lock.clone(), lock.clone());
        let _: JoinHandle<()> = go("holder", move || {
            let held = holder.read();
            Chan::<u8>::new().recv();
            black_box(*held);
        });
        greenprof_runtime::sleep(Duration::from_millis(20));
        let _: JoinHandle<()> = go("writer", move || *writer.write() += 1);
        greenprof_runtime::sleep(Duration::from_millis(20));
        (7, go("reader", move || *reader.read()))
    });
    settle(&runtime, 3);
    let report = report(&runtime);
    let reclamation = reclaim_if(&report, &reclaim_options(), is_named("writer"));
    assert_eq!(*outcome(&report, &reclamation, "writer"), Outcome::Reclaimed);
    assert_eq!(reclamation.tasks.len(), 1);
    assert_eq!(reads.join().expect("an end"), value);
    let rest = self::report(&runtime);
    assert_eq!(names(&rest), ["holder"]);
    // What the first report says of the others is out of date.
    let late = reclaim_if(&report, &reclaim_options(), is_named("holder"));
    assert_eq!(*outcome(&report, &late, "holder"), Outcome::Refused(Refusal::Outdated));
    assert_eq!(reclaim_all(&rest).reclaimed(), 1);
    assert!(lock.try_write().is_some());
}

/// A function of C's with a callback of ours on the stack.
fn in_a_foreign_frame() {
    extern "C-unwind" fn compare(_: *const libc::c_void, _: *const libc::c_void) -> i32 {
        Chan::<u8>::new().recv();
        black_box(0)
    }
    type Compare = extern "C-unwind" fn(*const libc::c_void, *const libc::c_void) -> i32;
    unsafe extern "C-unwind" {
        fn qsort(base: *mut libc::c_void, count: usize, size: usize, compare: Compare);
    }
    let mut numbers = [2_u64, 1];
    // SAFETY: two numbers of eight bytes.
    unsafe { qsort(numbers.as_mut_ptr().cast(), numbers.len(), 8, compare) };
}

extern "C" fn must_not_unwind() {
    Chan::<u8>::new().recv();
    black_box(());
}

#[test]
fn who_must_not_be_unwound_is_left_alone() {
    let _alone = alone();
    let runtime = runtime();
    made(&runtime, || {
        let _: JoinHandle<()> = go("foreign", in_a_foreign_frame);
        let _: JoinHandle<()> = go("c", || black_box(must_not_unwind as extern "C" fn())());
        let _: JoinHandle<_> = go("plain", || Chan::<u8>::new().recv());
    });
    settle(&runtime, 3);
    let before = report(&runtime);
    let reclamation = reclaim_all(&before);
    match outcome(&before, &reclamation, "foreign") {
        // The name of an inner function, where the C library has symbols for it.
        Outcome::Refused(Refusal::Foreign(function)) => assert!(!function.contains("in_a_foreign_frame"), "{function}"),
        other => panic!("{other:?}"),
    }
    match outcome(&before, &reclamation, "c") {
        Outcome::Refused(Refusal::NoUnwind(function)) => assert!(function.contains("must_not_unwind"), "{function}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(*outcome(&before, &reclamation, "plain"), Outcome::Reclaimed);
    let after = report(&runtime);
    let mut left = names(&after);
    left.sort_unstable();
    assert_eq!(left, ["c", "foreign"], "they wait as before");
}

/// A destructor that waits blocks its thread, and the task ends when the wait does.
#[test]
fn a_destructor_may_wait() {
    let _alone = alone();
    struct Waits(Chan<u8>);

    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.recv();
        }
    }

    let runtime = runtime();
    let gate: Chan<u8> = Chan::new();
    let join = made(&runtime, || {
        let waits = Waits(gate.clone());
        go("waits", move || {
            let _waits = waits;
            Chan::<u8>::new().recv();
        })
    });
    settle(&runtime, 1);
    let before = report(&runtime);
    let mut patience = reclaim::Options::default();
    patience.patience = Duration::from_millis(50);
    let reclamation = reclaim_if(&before, &patience, |_| true);
    assert_eq!(*outcome(&before, &reclamation, "waits"), Outcome::Pending);
    // It may need a moment until it waits again.
    let began = Instant::now();
    loop {
        let again = reclaim_if(&before, &patience, |_| true);
        match outcome(&before, &again, "waits") {
            Outcome::Refused(Refusal::Unwinding) => break,
            Outcome::Refused(Refusal::Woken) if began.elapsed() < Duration::from_secs(60) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(report(&runtime).leaked().is_empty(), "who unwinds is live");
    assert_eq!(runtime.run(|| 7), 7, "others run meanwhile");
    gate.close();
    let payload = join.join().expect_err("it was unwound");
    assert!(payload.is::<Reclaimed>());
}

/// Code that catches every panic goes on.
#[test]
fn who_catches_the_unwinding_is_pending() {
    let _alone = alone();
    let runtime = runtime();
    let end: Chan<u8> = Chan::new();
    let join = made(&runtime, || {
        let end = end.clone();
        go("catches", move || {
            let caught = std::panic::catch_unwind(|| Chan::<u8>::new().recv()).expect_err("it was unwound");
            end.recv();
            caught.is::<Reclaimed>()
        })
    });
    settle(&runtime, 1);
    let before = report(&runtime);
    let mut patience = reclaim::Options::default();
    patience.patience = Duration::from_millis(50);
    let reclamation = reclaim_if(&before, &patience, |_| true);
    assert_eq!(*outcome(&before, &reclamation, "catches"), Outcome::Pending);
    end.close();
    assert!(join.join().expect("it goes on"));
}

#[test]
fn a_runtime_that_was_shut_down_runs_nothing() {
    let _alone = alone();
    let runtime = runtime();
    made(&runtime, || drop(go("left", || Chan::<u8>::new().recv())));
    settle(&runtime, 1);
    let before = report(&runtime);
    drop(runtime);
    let reclamation = reclaim_all(&before);
    assert_eq!(*outcome(&before, &reclamation, "left"), Outcome::Refused(Refusal::ShutDown));
}

#[test]
fn nothing_is_reclaimed_twice() {
    let _alone = alone();
    let runtime = runtime();
    made(&runtime, || drop(go("once", || Chan::<u8>::new().recv())));
    settle(&runtime, 1);
    let before = report(&runtime);
    assert_eq!(reclaim_all(&before).reclaimed(), 1);
    let reclamation = reclaim_all(&before);
    assert_eq!(*outcome(&before, &reclamation, "once"), Outcome::Refused(Refusal::Woken));
}

#[test]
fn the_port_offers_it_when_it_was_told_to() {
    let _alone = alone();
    let runtime = runtime();
    made(&runtime, || {
        for name in ["first", "second"] {
            drop(go(name, || Chan::<u8>::new().recv()));
        }
    });
    settle(&runtime, 2);
    let path = "/debug/greenprof/reclaim";
    let plain = greenprof_profiler::serve("127.0.0.1:0").expect("a port");
    assert_eq!(client::get(plain.local_addr(), path).status, 404, "it is off");
    let registry = greenprof_profiler::registry();
    reclaim::register(&registry).expect("a new path");
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry).bind().expect("a port");
    let address = server.local_addr();
    assert_eq!(client::get(address, path).status, 200);
    let post = |headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {path}?settle=100ms HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        client::raw(address, request.as_bytes(), Duration::from_secs(120)).expect("an answer").expect("an answer")
    };
    assert_eq!(post("", "").status, 403, "without the header");
    assert_eq!(post("X-Greenprof: 1\r\n", "[]").status, 400);
    let report = report(&runtime);
    let ids: HashMap<&str, u64> =
        report.leaked().iter().map(|leak| (leak.task.name.as_deref().unwrap_or("?"), leak.id().get())).collect();
    let first = ids["first"];
    let answer = post("X-Greenprof: 1\r\n", &format!("{{\"tasks\": [{first}, 18446744073709551615]}}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let value: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(value["reclaimed"], 1, "{value}");
    assert_eq!(value["tasks"][0]["name"], "first");
    assert_eq!(value["not_leaked"][0], u64::MAX);
    let metrics = client::get(address, "/metrics");
    assert!(metrics.text().contains("greenprof_leak_detector_errors_total 0\n"), "{}", metrics.text());
    assert!(metrics.text().contains("greenprof_leak_tasks_unwound_total "), "{}", metrics.text());
    let rest = self::report(&runtime);
    assert_eq!(names(&rest), ["second"]);
}
