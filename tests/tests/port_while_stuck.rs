//! The port answers on all its paths while many tasks wait and every worker is in an endless loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::serve;
use greenprof_runtime::{Runtime, heap::Heap, spawn, sync::Chan, world};
use greenprof_tests::{StopOnDrop, client};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// A debug build needs seconds for as many as a release build is asked for.
const BLOCKED: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };

const WORKERS: usize = 2;

const PATHS: [&str; 29] = [
    "/debug/pprof/",
    "/debug/pprof/ui/",
    "/debug/pprof/cmdline",
    "/debug/pprof/symbol",
    "/debug/pprof/profile?seconds=1",
    "/debug/pprof/wall?seconds=1",
    "/debug/pprof/trace?seconds=1",
    "/debug/pprof/goroutine",
    "/debug/pprof/goroutine?debug=1",
    "/debug/pprof/goroutine?debug=2",
    "/debug/pprof/goroutine?seconds=1",
    "/debug/pprof/goroutineleak",
    "/debug/pprof/goroutineleak?debug=1",
    "/debug/pprof/heap",
    "/debug/pprof/heap?debug=1",
    "/debug/pprof/heap?gc=1",
    "/debug/pprof/heap?seconds=1",
    "/debug/pprof/allocs",
    "/debug/pprof/allocs?debug=1",
    "/debug/pprof/block",
    "/debug/pprof/block?debug=1",
    "/debug/pprof/mutex",
    "/debug/pprof/mutex?debug=1",
    "/debug/pprof/mutex?side=waiter",
    "/debug/pprof/threadcreate",
    "/debug/pprof/threadcreate?debug=1",
    "/debug/greenprof/rates",
    "/metrics",
    "/debug/pprof/block?seconds=1",
];

#[test]
fn every_path_answers() {
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let runtime = Runtime::builder().workers(WORKERS).build().unwrap();
    let gate = Chan::<()>::new();
    let waits = gate.clone();
    runtime.run(move || {
        for _ in 0..BLOCKED {
            let gate = waits.clone();
            drop(spawn(move || gate.recv()));
        }
    });
    while world::states().waiting < BLOCKED {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let turns: [Arc<AtomicU64>; WORKERS] = Default::default();
    let stopper = StopOnDrop(stop.clone());
    let spinners = turns.clone().map(|turns| {
        let stop = stop.clone();
        let spin = move || {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        };
        runtime.handle().spawn(spin).unwrap()
    });
    while turns.iter().any(|turns| turns.load(Ordering::Relaxed) == 0) {
        std::thread::sleep(Duration::from_millis(5));
    }
    for path in PATHS {
        let answer = client::get(address, path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert!(!answer.body.is_empty(), "{path}");
    }
    let all = client::get(address, "/debug/pprof/goroutine?debug=1");
    let first = all.text().lines().next().unwrap().to_owned();
    assert_eq!(first, format!("goroutine profile: total {}", BLOCKED + WORKERS));
    assert!(!stop.load(Ordering::Relaxed), "the loops were still running");
    drop(stopper);
    spinners.into_iter().for_each(|task| task.join().unwrap());
    gate.close();
}
