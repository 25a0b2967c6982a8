//! Automatic capture from the outside: one capture for a crossing, none in the cool-down, never more bytes than allowed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use greenprof_profiler::{
    registry,
    watch::{Builder, Threshold, Watch, WatchError},
};
use greenprof_runtime::{Runtime, heap::Heap, sync::Chan};
use greenprof_tests::cpu_profiler;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// A watch that looks often.
fn quick(path: &Path) -> Builder {
    Builder::new(path).period(Duration::from_millis(20)).cpu_profile(Duration::ZERO)
}

fn wait_for(watch: &Watch, captures: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while watch.captures() < captures {
        assert!(Instant::now() < deadline, "{} of {captures} captures", watch.captures());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn captures(path: &Path) -> Vec<PathBuf> {
    let mut captures: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    captures.sort();
    captures
}

fn bytes(path: &Path) -> u64 {
    let files = captures(path).into_iter().flat_map(|capture| fs::read_dir(capture).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn too_many_tasks_make_one_capture_with_everything() {
    let _cpu = cpu_profiler();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let few = Threshold::Tasks(500);
    let watch = quick(&path).when(few).cpu_profile(Duration::from_millis(200)).start(registry()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(watch.captures(), 0, "there are few tasks yet");
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let gate = Chan::<()>::new();
    let tasks: Vec<_> = (0..600)
        .map(|_| {
            let gate = gate.clone();
            runtime.handle().spawn(move || gate.recv()).unwrap()
        })
        .collect();
    wait_for(&watch, 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(watch.captures(), 1, "it cools down");
    drop(watch);
    let found = captures(&path);
    assert_eq!(found.len(), 1);
    let name = found[0].file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("-tasks"), "{name}");
    for file in ["why.txt", "metrics.txt", "goroutine.txt", "goroutine.pb.gz", "heap.pb.gz", "profile.pb.gz"] {
        assert!(found[0].join(file).metadata().unwrap().len() > 0, "{file}");
    }
    assert!(!found[0].join("errors.txt").exists());
    let text = fs::read_to_string(found[0].join("goroutine.txt")).unwrap();
    let total: usize = text.lines().next().and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    assert!(total >= 500, "{total}");
    assert!(fs::read_to_string(found[0].join("metrics.txt")).unwrap().ends_with("# EOF\n"));
    gate.close();
    for task in tasks {
        assert_eq!(task.join().unwrap(), None);
    }
}

#[test]
fn captures_never_exceed_their_bound() {
    let directory = tempfile::tempdir().unwrap();
    let settings = |size| quick(directory.path()).when(Threshold::Memory(1)).cool_down(Duration::ZERO).max_bytes(size);
    let watch = settings(u64::MAX).start(registry()).unwrap();
    wait_for(&watch, 1);
    drop(watch);
    let one = bytes(directory.path()) / captures(directory.path()).len() as u64;
    let limit = one * 5 / 2;
    let watch = settings(limit).start(registry()).unwrap();
    for count in 1..=8 {
        wait_for(&watch, count);
    }
    drop(watch);
    let left = captures(directory.path());
    assert!((1..=4).contains(&left.len()), "{left:?}");
    assert!(bytes(directory.path()) <= limit);
    // Less than any one file: the reason for the capture is all that there is room for.
    let directory = tempfile::tempdir().unwrap();
    let tiny = quick(directory.path()).when(Threshold::Memory(1)).max_bytes(300).start(registry()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(tiny);
    assert!(bytes(directory.path()) <= 300);
}

#[test]
fn what_cannot_be_watched_is_one_sentence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = quick(file.path()).when(Threshold::Tasks(1)).start(registry()).unwrap_err();
    assert!(matches!(error, WatchError::Directory { .. }), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let error = quick(directory.path()).start(registry()).unwrap_err();
    assert!(matches!(error, WatchError::NoThreshold), "{error}");
    let error = quick(directory.path()).when(Threshold::Cpu(-1.0)).start(registry()).unwrap_err();
    assert!(error.to_string().contains("-1.0"), "{error}");
}
