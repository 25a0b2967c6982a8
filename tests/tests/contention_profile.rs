//! The contention profiles, with everything recorded: who waits, who has waited, and who let others wait.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    contention::{self, ContentionProfile, Record, Snapshot},
    http::NamedProfile,
    profile::LabelValue,
    serve, set_block_profile_rate, set_mutex_profile_fraction,
};
use greenprof_runtime::{
    Runtime, labels, select, spawn,
    sync::{Chan, Condvar, Mutex, Once, RawMutex, RwLock, Semaphore, WaitGroup},
};
use greenprof_tests::{client, go, pprof};

/// A wait, and what ends it.
struct Case {
    name: &'static str,
    /// What the profile shows innermost.
    leaf: &'static str,
    wait: Box<dyn FnOnce() + Send>,
    end: Box<dyn FnOnce() + Send>,
}

fn case(
    name: &'static str,
    leaf: &'static str,
    wait: impl FnOnce() + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) -> Case {
    Case { name, leaf, wait: Box::new(wait), end: Box::new(end) }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

const LONG: Duration = Duration::from_secs(3600);

/// Each primitive, in a state in which one has to wait for it. To be called in a task.
fn cases() -> Vec<Case> {
    let (receive, send, chosen, timed) = (Chan::new(), Chan::new(), Chan::new(), Chan::new());
    let [receive_end, send_end, chosen_end, timed_end] = [&receive, &send, &chosen, &timed].map(Chan::clone);
    let (mutex, raw, read, write) =
        (leak(Mutex::new(0)), leak(RawMutex::new()), leak(RwLock::new(0)), leak(RwLock::new(0)));
    let (mutex_guard, read_guard, write_guard) = (mutex.lock(), read.write(), write.read());
    raw.lock();
    let condition = leak((Mutex::new(false), Condvar::new()));
    let group = WaitGroup::new();
    group.add(1);
    let group_end = group.clone();
    let once = leak(Once::new());
    let (once_runs, once_end) = (Chan::new(), Chan::new());
    let (runs, ends) = (once_runs.clone(), once_end.clone());
    spawn(move || {
        once.call_once(|| {
            runs.send(()).unwrap();
            ends.recv();
        })
    });
    once_runs.recv();
    let permits = Semaphore::new(0);
    let permits_end = permits.clone();
    let (joined, join_end) = (Chan::<()>::new(), Chan::new());
    let join_again = join_end.clone();
    let task = spawn(move || join_again.recv().map_or((), |()| ()));
    drop(joined);
    vec![
        case("receive", "recv", move || assert!(receive.recv().is_some()), move || receive_end.send(()).unwrap()),
        case("send", "send", move || send.send(()).unwrap(), move || assert!(send_end.recv().is_some())),
        case(
            "select",
            "select::run",
            move || {
                select! {
                    recv(chosen) -> _value => {},
                    recv(Chan::<()>::nil()) -> _value => {},
                }
            },
            move || chosen_end.send(()).unwrap(),
        ),
        case("timed", "recv_timeout", move || timed.recv_timeout(LONG).unwrap(), move || timed_end.send(()).unwrap()),
        case("mutex", "lock", move || drop(mutex.lock()), move || drop(mutex_guard)),
        case("raw mutex", "lock", move || raw.lock(), move || raw.unlock()),
        case("read", "read", move || drop(read.read()), move || drop(read_guard)),
        case("write", "write", move || drop(write.write()), move || drop(write_guard)),
        case(
            "condition",
            "wait_while",
            move || drop(condition.1.wait_while(condition.0.lock(), |done| !*done)),
            move || {
                *condition.0.lock() = true;
                condition.1.notify_one();
            },
        ),
        case("wait group", "wait", move || group.wait(), move || group_end.done()),
        case("once", "call_once", move || once.call_once(|| ()), move || once_end.send(()).unwrap()),
        case("semaphore", "acquire", move || drop(permits.acquire()), move || permits_end.add_permits(1)),
        case("join", "join", move || task.join().unwrap(), move || join_end.send(()).unwrap()),
    ]
}

fn is(record: &Record, name: &str, from: &str) -> bool {
    record.labels.get("case") == Some(name) && record.labels.get("from") == Some(from)
}

/// Takes snapshots until one has a record that `wanted` says.
fn until(take: fn() -> Snapshot, wanted: impl Fn(&Record) -> bool) -> Snapshot {
    let begin = Instant::now();
    loop {
        let snapshot = take();
        if snapshot.records.iter().any(&wanted) {
            return snapshot;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "never seen: {snapshot:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_primitive_shows_who_waits_and_who_has_waited() {
    set_block_profile_rate(1).unwrap();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    for from in ["task", "thread"] {
        for Case { name, leaf, wait, end } in runtime.run(cases) {
            let begin = Instant::now();
            let wait = move || labels::with(&[("case", name), ("from", from)], wait);
            let (done, waited) = mpsc::channel();
            let wait = move || {
                wait();
                done.send(()).unwrap();
            };
            let thread = match from {
                "task" => {
                    drop(runtime.run(move || spawn(wait)));
                    None
                }
                _ => Some(thread::spawn(wait)),
            };
            let in_progress = until(contention::block, |record| is(record, name, from) && record.waiting);
            let ended = |record: &Record| is(record, name, from) && !record.waiting;
            assert!(!in_progress.records.iter().any(ended), "{name} from a {from}: it waits only once");
            end();
            waited.recv().unwrap();
            if let Some(thread) = thread {
                thread.join().unwrap();
            }
            let snapshot = contention::block();
            assert!(
                !snapshot.records.iter().any(|record| is(record, name, from) && record.waiting),
                "{name} from a {from}: it waits no more"
            );
            let (contentions, delay) = snapshot.total(ended);
            assert_eq!((contentions.value, contentions.variance), (1.0, 0.0), "{name} from a {from}");
            let most = begin.elapsed().as_nanos() as f64;
            assert!(delay.value > 0.0 && delay.value <= most * 1.001, "{name} from a {from}: {delay:?} of {most}");

            let bytes = ContentionProfile::block().write(0).unwrap();
            let samples: Vec<_> = pprof::samples(&bytes)
                .into_iter()
                .filter(|sample| sample.label("case") == Some(name) && sample.label("from") == Some(from))
                .collect();
            assert_eq!(samples.len(), 1, "{name} from a {from}: {samples:?}");
            let function = &samples[0].functions[0];
            let is_runtimes = function.trim_start_matches('<').starts_with("greenprof_runtime::");
            assert!(is_runtimes && function.ends_with(leaf), "{name} from a {from}: {:?}", samples[0].functions);
            assert_eq!(samples[0].label("state"), None);
        }
    }
}

#[inline(never)]
fn hold_it_for_long(lock: &Mutex<u32>, others_wait: impl FnOnce()) {
    let mut guard = lock.lock();
    others_wait();
    *guard += 1;
}

#[inline(never)]
fn need_it(lock: &Mutex<u32>) {
    *lock.lock() += 1;
}

#[test]
fn a_hold_is_charged_with_what_all_others_wait() {
    const WAITERS: usize = 3;
    set_block_profile_rate(1).unwrap();
    set_mutex_profile_fraction(1).unwrap();
    let lock = Arc::new(Mutex::new(0));
    let own = |record: &Record| record.labels.get("lock") == Some("held");
    let mut waiters = Vec::new();
    labels::with(&[("lock", "held")], || {
        hold_it_for_long(&lock, || {
            for _ in 0..WAITERS {
                let lock = lock.clone();
                let wait = move || labels::with(&[("lock", "held")], || need_it(&lock));
                waiters.push(thread::spawn(wait));
            }
            let waiting = |record: &Record| own(record) && record.waiting && record.samples == WAITERS as u64;
            until(contention::block, waiting);
            thread::sleep(Duration::from_millis(20));
        })
    });
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    assert_eq!(*lock.lock(), 1 + WAITERS as u32);

    // Each nanosecond of each waiter is charged once, and most of them to the one that held it for long.
    let (unlocks, charged) = contention::mutex().total(own);
    let (waits, waited) = contention::mutex_waiters().total(own);
    assert!(unlocks.value >= 1.0 && waits.value >= WAITERS as f64, "{unlocks:?} {waits:?}");
    assert!(charged.value >= 20e6 * WAITERS as f64, "{charged:?}");
    // They are measured by different clocks, at slightly different moments: from entering the queue to being taken from
    // it, and from parking to running again.
    assert!(charged.value <= waited.value * 1.05 + 5e6, "{charged:?} of {waited:?}");

    let samples = |query: &str| {
        let server = serve("127.0.0.1:0").unwrap();
        let answer = client::get(server.local_addr(), &format!("/debug/pprof/mutex{query}"));
        assert_eq!(answer.status, 200);
        let own = pprof::samples(&answer.body).into_iter().filter(|sample| sample.label("lock") == Some("held"));
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|sample| std::cmp::Reverse(sample.values[1]));
        own
    };
    let unlockers = samples("");
    assert!(unlockers[0].calls("hold_it_for_long") && !unlockers[0].calls("need_it"), "{unlockers:?}");
    assert!(unlockers[0].values[1] as f64 >= 20e6 * WAITERS as f64, "{unlockers:?}");
    let waiters = samples("?side=waiter");
    assert!(waiters.iter().all(|sample| sample.calls("need_it") && !sample.calls("hold_it_for_long")), "{waiters:?}");
}

#[test]
fn the_port_has_text_deltas_and_a_sentence_for_a_wrong_side() {
    set_block_profile_rate(1).unwrap();
    set_mutex_profile_fraction(1).unwrap();
    let server = serve("127.0.0.1:0").unwrap();
    let get = |path: &str| client::get(server.local_addr(), &format!("/debug/pprof/{path}"));
    let chan = Chan::<u32>::new();
    let hanging = chan.clone();
    let thread = thread::spawn(move || labels::with(&[("hangs", "here")], || hanging.recv()));
    let waiting = |record: &Record| record.labels.get("hangs") == Some("here") && record.waiting;
    until(contention::block, waiting);

    let block = get("block?debug=1");
    assert_eq!(block.header("content-type"), Some("text/plain; charset=utf-8"));
    let text = block.text();
    assert!(text.starts_with("--- contention:\ncycles/second=1000000000\n"), "{text}");
    assert!(text.contains("# labels: {\"hangs\":\"here\", \"state\":\"waiting\"}"), "{text}");
    let mutex = get("mutex?debug=1");
    assert!(mutex.text().starts_with("--- mutex:\ncycles/second=1000000000\nsampling period=1\n"), "{}", mutex.text());
    let wrong = get("mutex?side=both");
    assert_eq!(
        (wrong.status, wrong.text()),
        (400, "invalid value for \"side\" - must be \"unlocker\" or \"waiter\"\n")
    );

    let delta = get("block?seconds=1");
    assert_eq!(delta.header("content-disposition"), Some("attachment; filename=\"block-delta\""));

    // A wait that ends between two snapshots: the difference has the time in between, and no more.
    let begin = Instant::now();
    let before = contention::profile(&contention::block());
    thread::sleep(Duration::from_millis(30));
    chan.send(7).unwrap();
    assert_eq!(thread.join().unwrap(), Some(7));
    let after = contention::profile(&contention::block());
    let most = begin.elapsed().as_nanos() as i64;
    let hangs = ("hangs".to_owned(), LabelValue::Str("here".to_owned()));
    let own = after.since(before).samples.into_iter().filter(|sample| sample.labels.contains(&hangs));
    let (contentions, delay) = own.fold((0, 0), |sum, sample| (sum.0 + sample.values[0], sum.1 + sample.values[1]));
    assert_eq!(contentions, 0, "it was a wait before, and is one that has ended");
    assert!((29_000_000..most).contains(&delay), "{delay}");
}

/// Both sample types of both paths, narrowed by a label, on the live port.
#[test]
fn go_pprof_reads_both_paths() {
    if !go::available("go_pprof_reads_both_paths") {
        return;
    }
    set_block_profile_rate(1).unwrap();
    set_mutex_profile_fraction(1).unwrap();
    let server = serve("127.0.0.1:0").unwrap();
    let lock = Arc::new(Mutex::new(0));
    for tenant in ["acme", "bolt"] {
        labels::with(&[("tenant", tenant)], || {
            let waits = |record: &Record| record.labels.get("tenant") == Some(tenant) && record.waiting;
            let waiting = lock.clone();
            let wait = move || labels::with(&[("tenant", tenant)], || need_it(&waiting));
            let mut waiter = None;
            hold_it_for_long(&lock, || {
                waiter = Some(thread::spawn(wait));
                until(contention::block, waits);
            });
            waiter.unwrap().join().unwrap();
        });
    }
    for (path, function) in [("block", "need_it"), ("mutex", "hold_it_for_long"), ("mutex?side=waiter", "need_it")] {
        let url = format!("http://{}/debug/pprof/{path}", server.local_addr());
        for kind in ["contentions", "delay"] {
            let index = format!("-sample_index={kind}");
            let top = go::pprof(["-top", "-cum", &index, "-tagfocus=tenant=acme", &url]);
            assert!(top.contains(&format!("Type: {kind}")), "{top}");
            let row = go::top_rows(&top).into_iter().find(|row| row.name.contains(function));
            assert!(row.is_some_and(|row| row.cumulative > 0.0), "{path}: {top}");
            assert!(!top.contains("greenprof_profiler::contention"), "the recorder's own frames are left out: {top}");
        }
        let tags = go::pprof(["-tags", &url]);
        assert!(tags.contains("acme") && tags.contains("bolt"), "{tags}");
    }
}
