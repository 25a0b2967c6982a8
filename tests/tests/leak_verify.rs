//! What tests and people use besides the report: `verify_none`, tasks that are blocked for long, growth by spawn site.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    http::NamedProfile,
    leak::{self, Snapshot, View},
};
use greenprof_runtime::{JoinHandle, Runtime, heap::Heap, spawn, sync::Chan, task};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// The text that `code` panics with; nothing if it does not.
fn panics_with(code: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(code)).err()?;
    Some(payload.downcast_ref::<String>().expect("a text").clone())
}

/// Several tasks that nobody can wake: a stale word may hide one of them.
#[inline(never)]
fn forget_receivers(count: usize) {
    for i in 0..count {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let body = move || receiver.recv();
        let _: JoinHandle<_> = task::Builder::new().name(format!("forgotten-{i}")).spawn(body).expect("a task");
    }
}

#[test]
fn a_leak_fails_the_test() {
    let text = panics_with(|| leak::verify_none(|| forget_receivers(8))).expect("a failure");
    assert!(text.contains("leaked: nothing that is still reachable can wake them"), "{text}");
    assert!(text.contains("\"forgotten-") && text.contains("[chan receive (leaked)"), "{text}");
    assert!(text.contains("leak_verify.rs") && text.contains("made at"), "{text}");
    let errors = leak::detect().expect("a report").errors;
    assert_eq!(errors, 0, "the end of a runtime is no sign of life");
}

#[test]
fn without_a_leak_the_result_comes_back() {
    let channel = leak::verify_none(|| {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        // Blocked when `verify_none` looks, but whoever has the result can wake it.
        let _ = spawn(move || receiver.recv());
        greenprof_runtime::sleep(Duration::from_millis(5));
        channel
    });
    channel.close();
    leak::verify_none(|| {
        let results = Chan::with_capacity(1);
        let sender = results.clone();
        let _ = spawn(move || sender.send(7).is_ok());
    });
}

#[test]
fn a_task_that_is_on_its_way_is_waited_for() {
    leak::verify_none(|| {
        let _ = spawn(|| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {
                task::yield_now();
            }
        });
    });
}

#[test]
fn a_panic_of_the_body_stays_what_it_is() {
    let payload = catch_unwind(|| leak::verify_none(|| -> () { panic!("of the body") })).expect_err("a panic");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"of the body"));
}

#[test]
fn long_waits_are_suspected_and_leaks_are_not() {
    static GATE: OnceLock<Chan<u8>> = OnceLock::new();
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let name = "waits at the gate";
    runtime.run(|| {
        let gate = GATE.get_or_init(|| Chan::new());
        let waits = task::Builder::new().name(name).spawn(|| GATE.get().expect("it is set").recv()).expect("a task");
        let sleeps = task::Builder::new().name("sleeps").spawn(|| {
            greenprof_runtime::sleep(Duration::from_millis(300));
        });
        forget_receivers(8);
        greenprof_runtime::sleep(Duration::from_millis(100));
        let suspects = leak::blocked_longer_than(Duration::from_millis(50));
        assert!(suspects.tasks.iter().all(|task| task.waiting_for >= suspects.threshold));
        let has = |suspects: &leak::Suspects, name: &str| {
            suspects.tasks.iter().any(|task| task.name.as_deref().is_some_and(|own| own.starts_with(name)))
        };
        assert!(has(&suspects, name) && has(&suspects, "forgotten"));
        assert!(!has(&suspects, "sleeps"));
        let text = suspects.to_string();
        assert!(text.starts_with("# heuristic: blocked for at least 50ms") && text.contains(name), "{text}");
        let report = leak::detect().expect("a report");
        let leaked = report.leaked().len();
        assert!(leaked > 0 || report.incomplete().is_some());
        let before = suspects.tasks.len();
        let rest = suspects.without(&report);
        assert!(rest.tasks.len() <= before - leaked.min(1));
        assert!(has(&rest, name), "somebody can still come through the gate");
        assert!(!has(&leak::blocked_longer_than(Duration::from_secs(3600)), name));
        let view = View::Blocked(Duration::from_millis(50));
        let page = String::from_utf8(view.write(1).expect("a page")).expect("text");
        assert!(page.starts_with("# heuristic") && page.contains(name), "{page}");
        assert_eq!(&view.write(0).expect("a profile")[..2], b"\x1f\x8b");
        gate.close();
        assert_eq!(waits.join().expect("an end"), None);
        sleeps.expect("a task").join().expect("an end");
    });
}

#[test]
fn growth_is_by_spawn_site() {
    #[inline(never)]
    fn one_more(gate: &Chan<u8>) {
        let gate = gate.clone();
        let _ = spawn(move || gate.recv());
    }
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let gate: Chan<u8> = Chan::new();
        (0..3).for_each(|_| one_more(&gate));
        greenprof_runtime::sleep(Duration::from_millis(30));
        let before = Snapshot::take();
        (0..20).for_each(|_| one_more(&gate));
        greenprof_runtime::sleep(Duration::from_millis(30));
        let now = Snapshot::take();
        let growth = now.diff(&before);
        let own = |site: &&leak::SiteGrowth| {
            site.spawned_at.is_some_and(|at| at.file().ends_with("leak_verify.rs")) && site.alive() == 20
        };
        let site = growth.sites.iter().find(own).expect("the site is there");
        assert_eq!((site.before.alive, site.before.blocked, site.now.alive, site.blocked()), (3, 3, 23, 20));
        assert!(growth.elapsed >= Duration::from_millis(30));
        let text = growth.to_string();
        assert!(text.contains("+20") && text.contains("leak_verify.rs"), "{text}");
        let back = before.diff(&now);
        assert!(back.sites.iter().any(|site| site.alive() == -20));
        assert!(now.diff(&now).sites.is_empty());
        let view = View::Growth(Duration::from_millis(1));
        let page = String::from_utf8(view.write(1).expect("a page")).expect("text");
        assert!(page.starts_with("# heuristic: tasks by spawn site"), "{page}");
        assert!(view.write(0).expect_err("no profile").to_string().contains("debug=1"));
        gate.close();
    });
}
