//! What a report of leaked tasks has, in each of its forms: names, labels, places, groups, the wait graph, deadlocks, hostages; and why
//! another task is alive.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::{
    heap,
    leak::{self, Link, Node, Relation, Report},
    symbolize,
};
use greenprof_runtime::{
    JoinHandle, Runtime,
    heap::Heap,
    labels,
    sync::{Chan, Mutex, WaitGroup},
    world::{self, TaskState},
};
use greenprof_tests::{
    client,
    leaks::{alone, complete, go, options_for, runtime, settle},
};
use serde_json::Value;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Two tasks in a deadlock, one that waits for the end of one of them, and three that wait at the same place.
fn scene() -> Runtime {
    let runtime = runtime();
    runtime.run(|| {
        labels::set("tenant", "blue");
        let locks = Arc::new([Mutex::new(0), Mutex::new(0)]);
        let ready = WaitGroup::new();
        ready.add(2);
        let mut joins: Vec<JoinHandle<()>> = [("left", 0), ("right", 1)]
            .map(|(name, first)| {
                let (locks, ready) = (locks.clone(), ready.clone());
                go(name, move || {
                    let mut held = locks[first].lock();
                    ready.done();
                    ready.wait();
                    *held += *locks[1 - first].lock();
                })
            })
            .into();
        let join = joins.remove(0);
        let _: JoinHandle<()> = go("hostage", move || drop(join.join()));
        for _ in 0..3 {
            let _: JoinHandle<_> = go("same", || Chan::<u8>::new().recv());
        }
    });
    settle(&runtime, 6);
    runtime
}

fn number(report: &Report, name: &str) -> Node {
    let leak = report.leaked().iter().find(|leak| leak.task.name.as_deref() == Some(name));
    Node::Task(leak.unwrap_or_else(|| panic!("{name} is not reported")).id())
}

#[test]
fn the_wait_graph_leads_around_a_deadlock() {
    let _alone = alone();
    let runtime = scene();
    let mut options = options_for(&runtime);
    options.passes = 3;
    let report = complete(&options);
    assert_eq!(report.passes, 3);
    let graph = report.wait_graph();
    let next = |from: Node, relation: Relation| -> Vec<Node> {
        graph.edges.iter().filter(|edge| edge.from == from && edge.relation == relation).map(|edge| edge.to).collect()
    };
    let (left, right) = (number(&report, "left"), number(&report, "right"));
    let mut at = left;
    for expected in [right, left] {
        let [lock @ Node::Primitive(_)] = next(at, Relation::WaitsFor)[..] else { panic!("{graph:?}") };
        assert_eq!(next(lock, Relation::WokenBy), [expected]);
        at = expected;
    }
    assert_eq!(next(number(&report, "hostage"), Relation::WaitsFor), [left]);
    let nodes: HashSet<Node> = graph.nodes.iter().copied().collect();
    assert!(graph.edges.iter().all(|edge| nodes.contains(&edge.from) && nodes.contains(&edge.to)));
    assert_eq!(nodes.len(), graph.nodes.len());
}

#[test]
fn the_port_has_all_forms() {
    let _alone = alone();
    let mut runtime = scene();
    let server = greenprof_profiler::serve("127.0.0.1:0").expect("a port");
    let address = server.local_addr();
    let ask = |query: &str| client::get(address, &format!("/debug/pprof/goroutineleak?settle=200ms&{query}"));

    let full = || {
        let answer = ask("format=json&passes=2");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")
    };
    let has = |report: &Value, name: &str| {
        report["leaked"].as_array().is_some_and(|tasks| tasks.iter().any(|task| task["name"] == name))
    };
    // What another test has left on a thread's stack may be the address of what came there later, and hide it: then another scene is
    // made, elsewhere, before this one is given up.
    let found = |report: &Value| ["left", "right", "hostage", "same"].iter().all(|name| has(report, name));
    let mut report = full();
    for _ in 0..5 {
        if !found(&report) {
            let elsewhere = scene();
            drop(std::mem::replace(&mut runtime, elsewhere));
            report = full();
        }
    }
    assert_eq!(
        (&report["complete"], &report["passes"], &report["detector_errors"]),
        (&true.into(), &2.into(), &0.into())
    );
    let tasks = report["leaked"].as_array().expect("an array");
    let named =
        |name: &str| tasks.iter().find(|task| task["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"));
    let left = named("left");
    assert_eq!(left["labels"]["tenant"], "blue");
    assert_eq!(left["wait_reason"], "sync.Mutex.Lock");
    assert!(left["spawned_at"].as_str().is_some_and(|at| at.contains("leak_report.rs:")), "{left}");
    assert_eq!((&left["hostage"], &named("hostage")["hostage"]), (&false.into(), &true.into()));
    let lock = &left["waits_on"][0]["primitive"];
    let primitive =
        report["primitives"].as_array().expect("an array").iter().find(|p| p["number"] == *lock).expect("it");
    assert_eq!((&primitive["kind"], &primitive["held_by"][0]), (&"Mutex".into(), &named("right")["id"]));
    assert!(primitive["created_at"].as_str().is_some_and(|at| at.contains("leak_report.rs:")), "{primitive}");
    assert_eq!(report["deadlocks"][0]["tasks"].as_array().map(Vec::len), Some(2), "{report:#}");
    let group = &report["groups"][named("same")["group"].as_u64().expect("an index") as usize];
    // One of three may be hidden by a stale word.
    assert!(group["count"].as_u64().is_some_and(|count| (2..=3).contains(&count)), "{group}");
    assert!(group["stack"][0]["function"].as_str().is_some_and(|name| name.contains("scene")), "{group}");
    assert!(report["cost"]["words"].as_u64().is_some_and(|words| words > 0));
    assert_eq!(report["counts"]["leaked"], tasks.len());

    // In short: one of each, those of the deadlock first.
    let answer = ask("format=json&limit=1");
    let short: Value = serde_json::from_slice(&answer.body).expect("JSON");
    for list in ["leaked", "groups", "deadlocks"] {
        assert_eq!(short[list].as_array().map(Vec::len), Some(1), "{list}: {short:#}");
    }
    let first = &short["leaked"][0]["name"];
    assert!(first == "left" || first == "right", "{short:#}");
    assert!(short["counts"]["leaked"].as_u64() >= Some(5) && short["counts"]["groups"] == 4, "{short:#}");
    let nodes = short["graph"]["nodes"].as_array().expect("an array");
    assert!(nodes.len() == 2 && nodes.iter().any(|node| node["task"] == short["leaked"][0]["id"]), "{short:#}");

    let answer = ask("format=dot");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/vnd.graphviz; charset=utf-8")));
    let dot = answer.text();
    assert!(dot.starts_with("digraph leaks {") && dot.ends_with("}\n"), "{dot}");
    for part in ["left\\ntask ", "-> p", "could be woken by", "hostage"] {
        assert!(dot.contains(part), "{part} in {dot}");
    }

    let text = ask("debug=1");
    let text = text.text();
    assert!(text.starts_with("goroutineleak profile: total "), "{text}");
    for part in
        ["# deadlock: task ", "\"left\" waits for Mutex ", "hostage of a leaked task", "which only it can wake itself"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(ask("format=xml").status, 400);
    assert_eq!(ask("passes=0").status, 400);
}

#[test]
fn a_live_task_is_explained_with_names() {
    let _alone = alone();
    heap::start();
    heap::set_rate(1);
    let runtime = runtime();
    static IS_EXPLAINED: AtomicBool = AtomicBool::new(false);
    #[inline(never)]
    fn keeps_a_box() {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let _: JoinHandle<_> = go("kept", move || receiver.recv());
        let kept = std::hint::black_box(Box::new(channel));
        while !IS_EXPLAINED.load(Ordering::Relaxed) {
            greenprof_runtime::sleep(Duration::from_millis(10));
        }
        kept.close();
    }
    let keeper = runtime.handle().spawn(keeps_a_box).expect("a task");
    let server = greenprof_profiler::serve("127.0.0.1:0").expect("a port");
    let address = server.local_addr();
    let find = || world::tasks(0).iter().find(|task| task.name.as_deref() == Some("kept")).map(|task| task.id.get());
    let id = loop {
        match find() {
            Some(id) => break id,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let list = client::get(address, "/debug/pprof/why");
    assert!(list.status == 200 && list.text().contains("kept"), "{}", list.text());
    let answer = client::get(address, &format!("/debug/pprof/why?task={id}"));
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(text.starts_with(&format!("task {id} \"kept\" is alive")), "{text}");
    assert!(text.contains("Chan "), "{text}");
    let json = client::get(address, &format!("/debug/pprof/why?task={id}&format=json"));
    let value: Value = serde_json::from_slice(&json.body).expect("JSON");
    assert_eq!((&value["task"], &value["live"]), (&id.into(), &true.into()), "{value}");
    for (query, status) in [("task=x", 400), ("task=18446744073709551615", 404), ("format=xml", 400)] {
        assert_eq!(client::get(address, &format!("/debug/pprof/why?{query}")).status, status, "{query}");
    }
    IS_EXPLAINED.store(true, Ordering::Relaxed);
    keeper.join().expect("an end");
    heap::set_rate(greenprof_runtime::heap::sampling::DEFAULT_RATE);
    println!("{text}");
}

/// Who asks waits in the C library meanwhile, which has no frame pointers; its own functions are named all the same.
#[test]
fn the_frame_of_who_asks_is_named() {
    #[inline(never)]
    fn asks_and_holds() -> Vec<Link> {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let task: JoinHandle<_> = go("held by who asks", move || receiver.recv());
        let waits = || world::tasks(0).iter().any(|it| it.id == task.id() && matches!(it.state, TaskState::Waiting(_)));
        while !waits() {
            greenprof_runtime::sleep(Duration::from_millis(1));
        }
        let why = leak::why_alive(task.id()).expect("an answer").expect("this function can still send");
        std::hint::black_box(&channel).close();
        task.join().expect("an end");
        why.chain
    }
    let _alone = alone();
    let chain = runtime().run(asks_and_holds);
    let place = chain.iter().find_map(|link| if let Link::Frame(_, _, place) = link { Some(*place) } else { None });
    let place = place.unwrap_or_else(|| panic!("on no stack: {chain:?}"));
    let mut symbolizer = symbolize::shared().lock();
    symbolizer.refresh();
    let frames = symbolizer.resolve(place.saturating_sub(1));
    assert!(frames.iter().any(|frame| frame.function.contains("asks_and_holds")), "{place:#x}: {frames:?}, {chain:?}");
}
