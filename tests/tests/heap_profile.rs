//! The heap profiles of a program that has the allocator: over the port, from threads that end, and in a forked child.

use std::{cell::RefCell, hint::black_box, os::unix::process::CommandExt, process::Command, thread};

use greenprof_profiler::{
    heap as profiler,
    profile::{encode, proto},
    serve,
};
use greenprof_runtime::{Runtime, heap::Heap, labels, spawn, sync::Chan};
use greenprof_tests::{client, pprof};
use parking_lot::{Mutex, MutexGuard};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// The rate belongs to the process, so the tests go one after another.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
}

/// Wants memory that nobody else wants: 1 000 blocks of 5 000 bytes.
#[inline(never)]
fn hoard() -> Vec<Vec<u8>> {
    (0..1000).map(|_| black_box(Vec::with_capacity(5000))).collect()
}

/// Bytes of such a block.
const BLOCK: i64 = 5120;

fn text(profile: &proto::Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

#[test]
fn both_profiles_show_who_allocated() {
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    assert!([512 << 10, 1].contains(&profiler::rate()), "the default, unless another test was first");
    profiler::set_rate(1);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let kept = runtime.run(|| labels::with(&[("tenant", "acme")], || spawn(hoard).join().unwrap()));
    drop(runtime.run(|| labels::with(&[("tenant", "bluefin")], hoard)));
    for (name, first) in [("heap", "inuse_space"), ("allocs", "alloc_space"), ("heap?gc=1", "inuse_space")] {
        let answer = client::get(address, &format!("/debug/pprof/{name}"));
        assert_eq!(answer.status, 200, "{name}");
        let profile = encode::decode(&answer.body).unwrap();
        let types: Vec<_> =
            profile.sample_type.iter().map(|t| (text(&profile, t.r#type), text(&profile, t.unit))).collect();
        assert_eq!(
            types,
            [
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes")
            ]
        );
        assert_eq!(text(&profile, profile.default_sample_type), first);
        let period = profile.period_type.unwrap();
        assert_eq!((text(&profile, period.r#type), text(&profile, period.unit), profile.period), ("space", "bytes", 1));
        let samples = pprof::resolve(&profile);
        let of = |tenant: &str| {
            let mine = samples.iter().zip(&profile.sample).filter(|(sample, raw)| {
                let size = raw.label.iter().find(|label| text(&profile, label.key) == "bytes").expect("a size");
                sample.calls("heap_profile::hoard") && sample.label("tenant") == Some(tenant) && size.num == BLOCK
            });
            let found: Vec<_> = mine.map(|(sample, _)| sample.clone()).collect();
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            found[0].clone()
        };
        assert_eq!(of("acme").values, [1000, 1000 * BLOCK, 1000, 1000 * BLOCK]);
        assert_eq!(of("bluefin").values, [1000, 1000 * BLOCK, 0, 0]);
        // The allocator's own frames are not there: what comes first is what wanted the memory.
        assert!(of("bluefin").functions[0].starts_with("heap_profile::hoard"), "{:?}", of("bluefin").functions);
    }
    drop(kept);
    let profile = client::get(address, "/debug/pprof/heap");
    let freed = pprof::samples(&profile.body);
    let freed = freed.iter().find(|sample| sample.label("tenant") == Some("acme") && sample.values[1] == 1000 * BLOCK);
    assert_eq!(freed.unwrap().values[2..], [0, 0], "what was freed on another thread is not in use");
    profiler::set_rate(512 << 10);
}

#[test]
fn the_text_has_records_by_size_and_the_allocators_figures() {
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    profiler::set_rate(1);
    let kept = hoard();
    for name in ["heap", "allocs"] {
        let answer = client::get(server.local_addr(), &format!("/debug/pprof/{name}?debug=1"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let text = answer.text();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("heap profile: ") && first.ends_with("] @ heap/2"), "{first}");
        let in_use: Vec<u64> = text
            .lines()
            .skip(1)
            .filter(|line| line.contains("] @"))
            .map(|line| line.split([' ', ':']).filter(|word| !word.is_empty()).nth(1).unwrap().parse().unwrap())
            .collect();
        assert!(in_use.len() > 1 && in_use.is_sorted_by(|a, b| a >= b), "{in_use:?}");
        let record = text.split("\n\n").find(|record| record.contains("heap_profile::hoard")).expect(text);
        assert!(!record.contains("__rust_alloc") && record.contains("tests/heap_profile.rs:"), "{record}");
        for figure in ["Alloc", "TotalAlloc", "Mallocs", "Frees", "HeapInuse", "HeapObjects", "MaxRSS"] {
            assert!(text.contains(&format!("# {figure} = ")), "{figure}");
        }
    }
    drop(kept);
    profiler::set_rate(512 << 10);
}

#[test]
fn a_difference_shows_first_what_the_profile_does() {
    let _alone = alone();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    profiler::set_rate(1);
    for (name, first) in [("heap", "inuse_space"), ("allocs", "alloc_space")] {
        let answer = thread::spawn(move || client::get(address, &format!("/debug/pprof/{name}?seconds=1")));
        thread::sleep(std::time::Duration::from_millis(500));
        drop(hoard());
        let answer = answer.join().unwrap();
        assert_eq!(answer.header("content-disposition"), Some(&*format!("attachment; filename=\"{name}-delta\"")));
        let profile = encode::decode(&answer.body).unwrap();
        assert_eq!(text(&profile, profile.default_sample_type), first);
        let samples = pprof::resolve(&profile);
        let mine: Vec<_> = samples.iter().filter(|sample| sample.calls("heap_profile::hoard")).collect();
        let values: Vec<_> = mine.iter().map(|sample| &sample.values[..]).collect();
        assert!(values.contains(&&[1000, 1000 * BLOCK, 0, 0][..]), "{name}: {values:?}");
    }
    profiler::set_rate(512 << 10);
}

#[test]
fn threads_that_end_tasks_that_move_and_children_that_fork_are_sampled_without_harm() {
    let _alone = alone();
    profiler::start();
    profiler::set_rate(1);
    struct Late(Vec<u8>);
    impl Drop for Late {
        fn drop(&mut self) {
            // While the thread's variables are taken away.
            black_box(self.0.iter().map(|byte| byte.to_string()).collect::<Vec<_>>());
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let chan = Chan::with_capacity(4);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let chan = chan.clone();
            let task = move || (0..2000_usize).for_each(|n| chan.send(vec![1_u8; n % 100 + 1]).unwrap());
            runtime.handle().spawn(task).unwrap()
        })
        .collect();
    for _ in 0..20 {
        thread::spawn(|| LATE.set(Some(Late(vec![7; 50])))).join().unwrap();
        let mut command = Command::new("true");
        // With a closure std forks; the closure allocates and frees in the child.
        let closure = || {
            drop(black_box(vec![1_u8; 100]));
            Ok(())
        };
        // SAFETY: the allocator and the profiler can be used in a forked child.
        unsafe { command.pre_exec(closure) };
        for _ in 0..800 {
            chan.recv().unwrap();
        }
        assert!(command.status().unwrap().success());
    }
    tasks.into_iter().for_each(|task| task.join().unwrap());
    profiler::set_rate(512 << 10);
    assert_eq!(profiler::snapshot().lost, 0);
}
