//! Labels in every kind of profile: they are inherited, set, restored after a panic, and bounded, and the bound shows.

use std::{
    hint::black_box,
    net::SocketAddr,
    panic::{catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{contention, serve, set_block_profile_rate, set_mutex_profile_fraction};
use greenprof_runtime::{
    Runtime,
    heap::Heap,
    labels, spawn,
    sync::{Chan, Mutex},
    task, yield_now,
};
use greenprof_tests::{client, pprof};

#[global_allocator]
static HEAP: Heap = Heap::new();

fn until(is_there: impl Fn() -> bool, what: &str) {
    let begin = Instant::now();
    while !is_there() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never seen: {what}");
        yield_now();
    }
}

/// Allocates, computes, and lets another task wait for a lock, which has inherited the labels.
fn work(number: u64) {
    black_box(vec![0_u8; 100_000]);
    let lock = Arc::new(Mutex::new(number));
    let guard = lock.lock();
    let needs = lock.clone();
    let waiter = spawn(move || *needs.lock());
    let own = labels::current();
    until(|| contention::block().records.iter().any(|record| record.waiting && record.labels == own), "the waiter");
    let sum = (0..3_000_000).fold(number, |sum, n| black_box(sum.wrapping_mul(31) ^ n));
    drop(guard);
    assert_eq!(waiter.join().unwrap(), number);
    black_box(sum);
}

/// What a profile has for tenant `acme` on its route.
fn of_acme(path: &str, address: SocketAddr) -> usize {
    let answer = client::get(address, &format!("/debug/pprof/{path}"));
    assert_eq!(answer.status, 200, "{path}");
    pprof::samples(&answer.body)
        .iter()
        .filter(|sample| sample.label("tenant") == Some("acme") && sample.label("route") == Some("/orders"))
        .count()
}

#[test]
fn every_kind_of_profile_has_them_and_a_bound() {
    greenprof_profiler::heap::set_rate(1);
    set_block_profile_rate(1).unwrap();
    set_mutex_profile_fraction(1).unwrap();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let runtime = Runtime::builder().workers(2).build().unwrap();

    runtime.run(|| {
        let caught = catch_unwind(|| {
            labels::with(&[("tenant", "panics")], || {
                labels::set("also", "gone");
                resume_unwind(Box::new(()));
            });
        });
        assert!(caught.is_err() && labels::current().is_empty(), "a panic restores what was before");
    });

    let profiled = AtomicBool::new(false);
    let (in_cpu_profile, in_wall_profile) = thread::scope(|scope| {
        let profile = scope.spawn(|| {
            let counts = (of_acme("profile?seconds=2", address), of_acme("wall?seconds=1", address));
            profiled.store(true, Ordering::Relaxed);
            counts
        });
        runtime.run(|| {
            let profiled = &profiled;
            task::scope(|tasks| {
                labels::with(&[("route", "/orders")], || {
                    tasks.spawn(move || {
                        assert_eq!(labels::get("route").as_deref(), Some("/orders"), "inherited");
                        labels::set("tenant", "acme");
                        while !profiled.load(Ordering::Relaxed) {
                            work(7);
                        }
                    });
                });
            });
        });
        profile.join().unwrap()
    });
    assert!(in_cpu_profile > 0 && in_wall_profile > 0, "{in_cpu_profile} {in_wall_profile}");
    for path in ["heap", "allocs", "block", "mutex", "mutex?side=waiter"] {
        assert!(of_acme(path, address) > 0, "{path}");
    }
    let stays = Chan::<()>::new();
    let waits = stays.clone();
    runtime
        .run(move || labels::with(&[("route", "/orders"), ("tenant", "acme")], || drop(spawn(move || waits.recv()))));
    assert_eq!(of_acme("goroutine", address), 1);

    // As a number for each request would do.
    assert_eq!(labels::overflows(), 0);
    for number in 0..=labels::MAX_SETS {
        labels::with(&[("request", &number.to_string())], || black_box(labels::current()));
    }
    assert!(labels::overflows() > 0);
    labels::with(&[("request", "one more")], || {
        assert_eq!(labels::get("overflow").as_deref(), Some("label sets"));
        stays.send(()).unwrap();
    });
    let chan = Chan::<()>::new();
    let waits = chan.clone();
    let thread = thread::spawn(move || labels::with(&[("request", "the last")], || waits.recv()));
    let is_there = || contention::block().records.iter().any(|r| r.waiting && r.labels.get("overflow").is_some());
    until(is_there, "the wait under the overflowing set");
    chan.close();
    assert_eq!(thread.join().unwrap(), None);
    let block = client::get(address, "/debug/pprof/block?debug=1");
    assert!(block.text().contains("# labels: {\"overflow\":\"label sets\"}"), "{}", block.text());
}
