//! Detection in a copy of the process: the same answers, a program that goes on, and nothing left behind.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_profiler::{
    http::NamedProfile,
    leak::{self, Mode, Options, Report, View},
};
use greenprof_runtime::{Runtime, heap::Heap, sync::Chan, task, world::Patience};

#[global_allocator]
static HEAP: Heap = Heap::new();

const LEAKED: usize = 200;
const LIVE: usize = 200;

#[inline(never)]
fn forget(count: usize) {
    for _ in 0..count {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let _ = task::Builder::new().name("forgotten").spawn(move || receiver.recv()).expect("a task");
    }
}

#[inline(never)]
fn keep(count: usize) -> Vec<Chan<u8>> {
    let one = |_| {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let _ = task::Builder::new().name("kept").spawn(move || receiver.recv()).expect("a task");
        channel
    };
    (0..count).map(one).collect()
}

#[inline(never)]
fn detect(mode: Mode) -> Box<Report> {
    let mut options = Options::default();
    options.mode = mode;
    options.settle = Duration::from_millis(200);
    options.patience = Patience { deadline: Duration::from_secs(2), attempts: 5 };
    leak::detect_with(&options).expect("a report")
}

fn names(report: &Report) -> Vec<(u64, Option<&str>)> {
    report.leaked().iter().map(|leak| (leak.id().get(), leak.task.name.as_deref())).collect()
}

/// Processes whose parent is this one, zombies among them.
fn children() -> usize {
    let own = std::process::id().to_string();
    let parent_of = |stat: String| {
        let behind = stat.rsplit_once(')')?.1.to_owned();
        behind.split_whitespace().nth(1).map(str::to_owned)
    };
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(parent_of).filter(|parent| *parent == own).count()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// One test: how many children and files the process has is a matter of all of it.
#[test]
fn a_copy_gives_the_same_answers() {
    let runtime = Runtime::builder().workers(4).build().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let turns: Vec<Arc<AtomicU64>> = (0..8).map(|_| Arc::default()).collect();
    let busy: Vec<_> = turns
        .iter()
        .map(|turns| {
            let (stop, turns) = (stop.clone(), turns.clone());
            // Any of them may be stopped in the middle of the allocator, or with one of its locks.
            thread::spawn(move || {
                let mut held: Vec<Vec<u64>> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    held.push(vec![turn; (turn % 97) as usize + 1]);
                    if held.len() > 500 {
                        held.swap_remove((turn % 500) as usize);
                    }
                    let one = &held[turn as usize * 31 % held.len()];
                    assert!(one.iter().all(|word| *word == one[0]), "memory of the program has changed");
                }
            })
        })
        .collect();
    runtime.run(|| {
        forget(LEAKED);
        let kept = keep(LIVE);
        let (files, before) = (open_files(), children());
        let here = detect(Mode::Stop);
        assert_eq!((here.mode, here.not_copied, here.cost.cloning), (Mode::Stop, None, Duration::ZERO));
        assert_eq!(here.incomplete(), None);
        let mut most = 0;
        for _ in 0..10 {
            let turned: u64 = turns.iter().map(|turns| turns.load(Ordering::Relaxed)).sum();
            let copied = detect(Mode::Fork);
            let now: u64 = turns.iter().map(|turns| turns.load(Ordering::Relaxed)).sum();
            assert_eq!((copied.mode, copied.not_copied), (Mode::Fork, None));
            assert_eq!(copied.incomplete(), None);
            assert!(copied.leaked().iter().all(|leak| leak.task.name.as_deref() == Some("forgotten")), "{copied:?}");
            assert!(copied.leaked().iter().all(|leak| leak.waits_on.len() == 1), "{copied:?}");
            assert!(copied.cost.cloning > Duration::ZERO && copied.cost.cloning <= copied.cost.stopped);
            assert!(copied.cost.words > 0 && copied.counts.tasks > LEAKED + LIVE);
            assert!(now > turned, "the program goes on");
            most = most.max(copied.leaked().len());
        }
        let view = View::parse(|name| (name == "mode").then_some("fork")).expect("a view");
        let page = String::from_utf8(view.write(1).expect("a page")).expect("text");
        assert!(page.contains("# looked for in a copy of the process") && page.contains("forgotten"), "{page}");
        let again = detect(Mode::Stop);
        // A word on this stack may hide a task at one time, and not at another.
        assert!(names(&here).len() >= LEAKED - 4 && most >= LEAKED - 4, "{} and {most}", names(&here).len());
        assert_eq!(again.errors, 0);
        assert_eq!((open_files(), children()), (files, before), "a file or a process is left");
        // The program's own children are its own.
        let mut own = std::process::Command::new("true").spawn().expect("true");
        let _ = detect(Mode::Fork);
        assert!(own.wait().expect("its end").success());
        kept.iter().for_each(|channel| assert!(channel.close()));
    });
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().expect("memory is as it was left"));
}
