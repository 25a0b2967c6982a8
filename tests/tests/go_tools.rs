//! Go's own tools read what greenprof writes: on the files of a tour, and on the live port.
//!
//! One run of `tour --serve` in a release build is looked at from all sides.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use greenprof_profiler::{http::DebugServer, registry};
use greenprof_runtime::{Runtime, sync::Chan};
use greenprof_tests::{build, client, cpu_profiler, go, trace};

/// The function of `orders` that takes most of the time.
const HOT: &str = "greenprof_demos::orders::price::price_order";

/// A tour that goes on serving; ended when it is dropped.
struct Tour {
    child: Child,
    address: String,
}

impl Tour {
    fn start(out: &Path) -> Self {
        let program = build::release_binary("greenprof-demos", "greenprof-demos");
        let child = Command::new(program)
            .args(["tour", "--serve", "--seconds", "4", "--workers", "2", "--addr", "127.0.0.1:0", "--out"])
            .arg(out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tour starts");
        let mut tour = Self { child, address: String::new() };
        // What it says on the way, the port among it, is on standard error; the report is on standard output.
        let notes = BufReader::new(tour.child.stderr.take().expect("piped"));
        let mut said = String::new();
        for line in notes.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("http://") {
                tour.address = rest.split('/').next().unwrap_or_default().to_owned();
            }
            said.push_str(&line);
            said.push('\n');
            // Said when the captures are done and the service goes on.
            if line.contains("goes on") {
                return tour;
            }
        }
        let _ = tour.child.kill();
        let mut report = String::new();
        let _ = tour.child.stdout.take().map(|mut out| std::io::Read::read_to_string(&mut out, &mut report));
        panic!("the tour has ended:\n{said}{report}");
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The hot function comes first, by a wide margin, with its file and lines; labels narrow the profile to a tenant.
fn assert_cpu_profile_is_read(source: &str) {
    let top = go::pprof(["-top", source]);
    assert!(top.contains("Type: cpu"), "{top}");
    assert!(top.contains("greenprof truncated: "), "the comments say what is missing: {top}");
    let rows = go::top_rows(&top);
    assert_eq!(rows[0].name, HOT, "{top}");
    assert!(rows[0].flat > 50.0, "{top}");

    let lines = go::pprof(["-top", "-lines", source]);
    let first = &go::top_rows(&lines)[0].name;
    let place = first.strip_prefix(HOT).unwrap_or_else(|| panic!("{first}: {lines}"));
    let line = place.trim().rsplit_once("demos/src/orders/price.rs:").expect("the file").1;
    assert!(line.trim_end_matches(" (inline)").parse::<u32>().is_ok_and(|line| line > 0), "{lines}");

    let all = total(&top);
    let focused = go::pprof(["-top", "-tagfocus=tenant=acme", source]);
    let narrowed = go::top_rows(&focused);
    assert_eq!(narrowed[0].name, HOT, "{focused}");
    assert!(narrowed[0].cumulative < 80.0, "narrowed to one tenant of several: {focused}");
    let tags = go::pprof(["-tags", source]);
    for key in ["tenant:", "route:", "acme", "/orders"] {
        assert!(tags.contains(key), "{key}: {tags}");
    }
    // What pprof adds up is what was sampled, however much CPU the machine had for it.
    let sampled = top.split("greenprof cpu: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    let sampled = sampled.expect("the comment says how much");
    assert!(all > 0.0 && (all - sampled).abs() < 0.02, "{all} s of {sampled} s: {top}");

    let traces = go::pprof(["-traces", source]);
    assert!(traces.contains(HOT) && traces.contains("tenant:"), "{}", &traces[..traces.len().min(3000)]);
}

/// An inlined function is a frame of its own, called by the one that it was inlined into. It is a small part of the time: on a busy
/// machine a profile may have no sample of it, and another is taken.
fn assert_inlined_function_is_a_frame(source: &str) {
    let peek = (0..10).find_map(|_| go::try_pprof(["-peek", "price::rounded", source]).ok());
    let peek = peek.expect("a sample of it in one of ten profiles");
    assert!(peek.contains(HOT), "{peek}");
}

/// Seconds of samples that a profile holds, from its header.
fn total(top: &str) -> f64 {
    let text = top.split("Total samples = ").nth(1).expect("a total");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().expect("a number");
    match &text[end..] {
        unit if unit.starts_with("mins") => number * 60.0,
        unit if unit.starts_with("ms") => number / 1000.0,
        _ => number,
    }
}

fn assert_task_profile_is_read(source: &str) {
    let top = go::pprof(["-top", source]);
    assert!(top.contains("Type: goroutine"), "{top}");
    let tags = go::pprof(["-tags", source]);
    for reason in ["wait_reason:", "chan receive", "sleep", "sync.WaitGroup.Wait"] {
        assert!(tags.contains(reason), "{reason}: {tags}");
    }
    let sleeping = go::pprof(["-top", "-tagfocus=wait_reason=sleep", source]);
    assert!(sleeping.contains("greenprof_runtime::time::sleep"), "{sleeping}");
    let traces = go::pprof(["-traces", source]);
    assert!(traces.contains("greenprof_demos::orders::"), "{}", &traces[..traces.len().min(3000)]);
}

/// Each path has its own type first; all four types can be asked for; labels are there, and the allocator's frames are not.
fn assert_heap_profiles_are_read(heap: &str, allocs: &str) {
    for (source, shown_first) in [(heap, "inuse_space"), (allocs, "alloc_space")] {
        let top = go::pprof(["-top", source]);
        assert!(top.contains(&format!("Type: {shown_first}")), "{top}");
        for kind in ["inuse_space", "inuse_objects", "alloc_space", "alloc_objects"] {
            let top = go::pprof(["-top", &format!("-{kind}"), source]);
            assert!(top.contains(&format!("Type: {kind}")), "{top}");
            assert!(!top.contains("__rust_alloc"), "{top}");
        }
        let tags = go::pprof(["-tags", "-alloc_space", source]);
        assert!(tags.contains("tenant:") && tags.contains("bytes:"), "{tags}");
    }
    // Orders are decoded and priced with memory that is given back at once.
    let rows = go::top_rows(&go::pprof(["-top", "-cum", "-alloc_space", allocs]));
    assert!(rows.iter().any(|row| row.name.contains("greenprof_demos::orders::") && row.cumulative > 20.0), "{rows:?}");
}

/// Both sample types of both paths can be asked for; labels narrow them; waits in progress are told apart.
fn assert_contention_profiles_are_read(block: &str, mutex: &str) {
    for source in [block, mutex] {
        for kind in ["contentions", "delay"] {
            let top = go::pprof(["-top", &format!("-sample_index={kind}"), source]);
            assert!(top.contains(&format!("Type: {kind}")), "{top}");
            assert!(!top.contains("greenprof_profiler::contention"), "{top}");
        }
        assert!(go::pprof(["-top", source]).contains("Type: delay"));
    }
    let waiting = go::pprof(["-top", "-sample_index=contentions", "-tagfocus=state=waiting", block]);
    assert!(waiting.contains("greenprof_runtime::sync::chan::Chan::recv"), "{waiting}");
    let parked = go::pprof(["-traces", "-sample_index=contentions", "-tagfocus=role=parked", block]);
    assert!(parked.contains("greenprof_demos::orders::parked::"), "{parked}");
    let tags = go::pprof(["-tags", block]);
    assert!(tags.contains("state:") && tags.contains("waiting"), "{tags}");
}

#[test]
fn pprof_reads_the_files_of_a_tour_and_the_live_port() {
    if !go::available("pprof_reads_the_files_of_a_tour_and_the_live_port") {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let tour = Tour::start(out.path());
    let file = |name: &str| out.path().join(name).to_str().expect("text").to_owned();
    let url = |path: &str| format!("http://{}/debug/pprof/{path}", tour.address);
    assert_cpu_profile_is_read(&url("profile?seconds=3"));
    assert_inlined_function_is_a_frame(&url("profile?seconds=3"));
    assert_task_profile_is_read(&url("goroutine"));
    assert_heap_profiles_are_read(&url("heap"), &url("allocs"));
    assert_contention_profiles_are_read(&url("block"), &url("mutex"));
    assert!(go::pprof(["-top".to_owned(), url("mutex?side=waiter")]).contains("Type: delay"));
    assert!(go::pprof(["-top".to_owned(), url("block?seconds=1")]).contains("Type: delay"));
    let delta = go::pprof(["-top".to_owned(), url("allocs?seconds=2")]);
    assert!(delta.contains("Type: alloc_space") && delta.contains("Duration: 2"), "{delta}");
    assert!(go::pprof(["-top".to_owned(), url("heap?seconds=1")]).contains("Type: inuse_space"));
    // The text form is a profile, too: pprof takes it as the older format of the same thing.
    let text = client::get(tour.address.parse().expect("an address"), "/debug/pprof/goroutine?debug=1");
    let legacy = out.path().join("goroutine.txt");
    std::fs::write(&legacy, &text.body).expect("written");
    let count: i64 =
        text.text().lines().next().and_then(|l| l.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap();
    let top = go::pprof([legacy.to_str().expect("text")].into_iter().chain(["-top"]).rev());
    assert!(top.contains(&format!("of {count} total")) || top.contains(&format!(", 100% of {count}")), "{top}");
    // Two looks at what only grows: the difference is positive.
    let since = format!("-diff_base={}", file("allocs.pb.gz"));
    for newer in [url("allocs"), url("heap")] {
        let difference = go::pprof(["-top", "-cum", "-alloc_space", &since, &newer]);
        let rows = go::top_rows(&difference);
        assert!(difference.contains("Type: alloc_space") && difference.contains("Showing nodes"), "{difference}");
        let orders: Vec<_> = rows.iter().filter(|row| row.name.contains("greenprof_demos::orders::")).collect();
        assert!(!orders.is_empty() && orders.iter().all(|row| row.cumulative >= 0.0), "{difference}");
    }

    // Its service takes all processors.
    drop(tour);
    assert_cpu_profile_is_read(&file("cpu.pb.gz"));
    assert_task_profile_is_read(&file("goroutine.pb.gz"));
    assert_heap_profiles_are_read(&file("heap.pb.gz"), &file("allocs.pb.gz"));
    assert_contention_profiles_are_read(&file("block.pb.gz"), &file("mutex.pb.gz"));

    let traced = out.path().join("trace.out");
    trace::debug(&traced, "parsed");
    trace::assert_pages_answer(&traced, 60);
    // The text form of the heap is a profile, too, whose samples pprof scales up.
    let legacy = file("heap.debug1.txt");
    assert!(go::pprof(["-top", "-alloc_space", &legacy]).contains("Type: alloc_space"));
    // And that of contention.
    for legacy in [file("block.debug1.txt"), file("mutex.debug1.txt")] {
        assert!(go::pprof(["-top", "-sample_index=delay", &legacy]).contains("Type: delay"));
    }
    for name in ["cpu", "goroutine", "heap", "allocs", "block", "mutex"] {
        assert_pprof_writes_it_again(&file(&format!("{name}.pb.gz")), &out.path().join("again.pb.gz"));
    }
}

/// What pprof writes again is the same profile: types, samples, labels, places.
fn assert_pprof_writes_it_again(source: &str, again: &Path) {
    go::pprof(["-proto".to_owned(), format!("-output={}", again.display()), source.to_owned()]);
    let raw = |path: &str| go::pprof(["-raw", path]);
    let (first, second) = (raw(source), raw(again.to_str().expect("text")));
    assert!(first.contains("Samples:") && first.contains("Locations"), "{first}");
    assert_eq!(first, second, "{source}");
}

/// pprof can send a token only as the password in a URL.
#[test]
fn pprof_shows_the_token_as_a_password() {
    if !go::available("pprof_shows_the_token_as_a_password") {
        return;
    }
    let _cpu = cpu_profiler();
    let builder = DebugServer::builder().address("127.0.0.1:0").registry(registry()).token("s3cret");
    let server = builder.bind().expect("binds");
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let gate = Chan::<()>::new();
    let waits = gate.clone();
    let task = runtime.handle().spawn(move || waits.recv()).expect("a task");
    let ask = |user: &str, path: &str| {
        go::try_pprof(["-top".to_owned(), format!("http://{user}{}/debug/pprof/{path}", server.local_addr())])
    };
    let kinds = [
        ("goroutine", "goroutine"),
        ("threadcreate", "threadcreate"),
        ("profile?seconds=1", "cpu"),
        ("wall?seconds=1", "wall"),
        ("block", "delay"),
        ("mutex", "delay"),
    ];
    for (path, kind) in kinds {
        let top = ask(":s3cret@", path).unwrap_or_else(|errors| panic!("{path}: {errors}"));
        assert!(top.contains(&format!("Type: {kind}")), "{path}: {top}");
    }
    for stranger in ["", ":secret@", "s3cret@"] {
        let refused = ask(stranger, "goroutine").expect_err(stranger);
        assert!(refused.contains("401"), "{stranger}: {refused}");
    }
    gate.close();
    task.join().expect("no panic");
}
