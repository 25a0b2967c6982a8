//! What happens when the system gives no more memory, mappings or threads: spawning fails with a sentence, nothing
//! crashes, the tasks that exist go on, and when there is room again everything works again.
//!
//! Each case is a run of this same test binary, because the limits are the process's.

use std::{
    env,
    ffi::c_void,
    fs, io,
    process::Command,
    ptr,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Handle, JoinHandle, Runtime, SpawnError, spawn,
    sync::{Chan, Mutex},
    task, yield_now,
};

const CASE: &str = "GREENPROF_LIMITS_CASE";
const PAGE: usize = 4096;

/// In the child: runs the case. In the parent: runs the child, which must succeed.
fn case(name: &str, body: impl FnOnce()) {
    if env::var(CASE).is_ok_and(|case| case == name) {
        return body();
    }
    let output = Command::new(env::current_exe().expect("this test's binary"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CASE, name)
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}{text}", output.status, String::from_utf8_lossy(&output.stdout));
    if let Some(skipped) = text.lines().find(|line| line.starts_with("skipped")) {
        println!("{skipped}");
    }
}

fn check(result: libc::c_int) {
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Changes the soft limit of a resource, and leaves the hard one.
fn limit(resource: libc::__rlimit_resource_t, soft: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for the result, and a limit that was just read.
    unsafe {
        check(libc::getrlimit(resource, &mut limit));
        limit.rlim_cur = soft.min(limit.rlim_max);
        check(libc::setrlimit(resource, &limit));
    }
}

fn address_space() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * PAGE as u64
}

/// Tasks that wait, spawned until no more can be had, or `most`.
struct Crowd {
    gate: Chan<()>,
    tasks: Vec<JoinHandle<usize>>,
    error: Option<SpawnError>,
}

impl Crowd {
    fn gather(handle: &Handle, most: usize) -> Self {
        let gate = Chan::new();
        // Room for all of them now: later there may be none.
        let mut tasks = Vec::with_capacity(most);
        let mut error = None;
        while tasks.len() < most {
            let (n, gate) = (tasks.len(), gate.clone());
            let body = move || {
                assert_eq!(gate.recv(), None);
                n
            };
            match handle.spawn(body) {
                Ok(task) => tasks.push(task),
                Err(refused) => {
                    error = Some(refused);
                    break;
                }
            }
        }
        Self { gate, tasks, error }
    }

    /// Lets all of them end and returns how many there were.
    fn dismiss(self) -> usize {
        self.gate.close();
        let count = self.tasks.len();
        assert!(self.tasks.into_iter().map(|task| task.join().expect("no panic")).eq(0..count));
        count
    }
}

/// What holds in every case in which there is no stack for another task: `make_room` ends the shortage.
fn spawning_fails_and_recovers(runtime: &Runtime, expected: &[&str], make_room: impl FnOnce()) {
    const MOST: usize = 40_000;
    let handle = runtime.handle();
    let crowd = Crowd::gather(&handle, MOST);
    let error = crowd.error.as_ref().expect("there is a limit").to_string();
    for word in expected {
        assert!(error.contains(word), "{error}");
    }
    // From inside as well, and again and again: a stack that could not be had is not lost.
    let from_inside = handle.clone();
    let held = crowd.tasks.len();
    assert!(held > 50, "only {held} tasks");
    // Those that exist work on meanwhile, and can be talked to.
    let (ping, pong) = (Chan::new(), Chan::new());
    for _ in 0..100 {
        if let Err(error) = handle.spawn(|| ()) {
            assert!(matches!(error, SpawnError::OutOfMemory(_) | SpawnError::OutOfMappings(_)), "{error}");
        }
    }
    assert_eq!(crowd.dismiss(), held);
    // Their stacks are used again, also by tasks that spawn.
    let (ping2, pong2) = (ping.clone(), pong.clone());
    handle.spawn(move || ping2.iter().for_each(|n: u32| pong2.send(n + 1).unwrap())).unwrap();
    runtime.run(|| {
        let tasks: Vec<_> = (0..held / 2).map(|n| spawn(move || n)).collect();
        assert!(tasks.into_iter().map(|task| task.join().unwrap()).eq(0..held / 2));
        for n in 0..100 {
            ping.send(n).unwrap();
            assert_eq!(pong.recv(), Some(n + 1));
        }
        // The shortage may have passed by itself: something else has given a mapping back.
        let inside = Crowd::gather(&from_inside, MOST).dismiss();
        // Each of the two workers keeps up to 64 free stacks to itself.
        assert!(inside + 140 > held, "{inside} of {held}");
    });
    ping.close();
    make_room();
    let crowd = Crowd::gather(&handle, held + 1000);
    assert!(crowd.error.is_none(), "there is room: {}", crowd.error.unwrap());
    assert_eq!(crowd.dismiss(), held + 1000);
}

#[test]
fn address_space_runs_out() {
    case("address_space_runs_out", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        // Primitives reserve what they need at first use.
        runtime.run(|| Chan::<()>::new().close());
        limit(libc::RLIMIT_AS, address_space() + (300 << 20));
        spawning_fails_and_recovers(&runtime, &["no address space for another task stack", "ulimit -v"], || {
            limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        });
    });
}

#[test]
fn large_stacks_are_refused_and_small_ones_go_on() {
    case("large_stacks_are_refused_and_small_ones_go_on", || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            Chan::<()>::new().close();
            limit(libc::RLIMIT_AS, address_space() + (200 << 20));
            let error = task::Builder::new().stack_size(512 << 20).spawn(|| ()).unwrap_err();
            assert!(matches!(error, SpawnError::OutOfMemory(_)), "{error}");
            assert_eq!(spawn(|| 5).join().unwrap(), 5);
            limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
            let large = task::Builder::new().stack_size(512 << 20).spawn(|| 6).unwrap();
            assert_eq!(large.join().unwrap(), 6);
        });
    });
}

/// Mappings of this process that are only there to be many.
struct Filler {
    start: *mut c_void,
    bytes: usize,
}

impl Filler {
    /// Leaves room for `left` more mappings. Nothing if the system allows too many to use them up.
    fn leave(left: usize) -> Option<Self> {
        let most: usize = fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()?;
        let now = fs::read_to_string("/proc/self/maps").ok()?.lines().count();
        let wanted = most.checked_sub(now + left)?;
        if most > 1 << 20 {
            return None;
        }
        let bytes = wanted * PAGE;
        // SAFETY: a fresh mapping of which every second page gets another protection, so that each page is a mapping.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let start = libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            for page in (1..wanted).step_by(2) {
                if libc::mprotect(start.byte_add(page * PAGE), PAGE, libc::PROT_READ) != 0 {
                    break; // the threads of the runtime have made some as well
                }
            }
            Some(Self { start, bytes })
        }
    }

    fn remove(self) {
        // SAFETY: nobody uses it.
        check(unsafe { libc::munmap(self.start, self.bytes) });
    }
}

/// From now on the kernel refuses guard pages as one does that has none (before Linux 6.13). `false` if filters are not
/// allowed here.
fn forbid_guard_pages() -> bool {
    const GUARD_INSTALL: u32 = 102;
    let op = |code: u32, k: u32, yes: u8, no: u8| libc::sock_filter { code: code as u16, jt: yes, jf: no, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = [
        op(load, 0, 0, 0), // the system call's number
        op(equal, libc::SYS_madvise as u32, 2, 0),
        op(equal, libc::SYS_process_madvise as u32, 3, 0),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
        op(load, 32, 0, 0), // the lower half of the third argument
        op(libc::BPF_JMP | libc::BPF_JA, 1, 0, 0),
        op(load, 40, 0, 0), // of the fourth
        op(equal, GUARD_INSTALL, 0, 1),
        op(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0, 0),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program, which the kernel copies and checks.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
    }
}

#[test]
fn mappings_for_guards_run_out() {
    case("mappings_for_guards_run_out", || {
        if !forbid_guard_pages() {
            return eprintln!("skipped: no filters for system calls here");
        }
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| Chan::<()>::new().close());
        let Some(filler) = Filler::leave(600) else {
            return eprintln!("skipped: vm.max_map_count is too large to be reached");
        };
        let expected = ["no guard page for another task stack", "vm.max_map_count"];
        spawning_fails_and_recovers(&runtime, &expected, || filler.remove());
    });
}

#[test]
fn mappings_for_stacks_run_out() {
    case("mappings_for_stacks_run_out", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| {
            Chan::<()>::new().close();
            // A hundred stacks exist before there is no room for more.
            let tasks: Vec<_> = (0..100).map(|_| spawn(yield_now)).collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
        let Some(filler) = Filler::leave(0) else {
            return eprintln!("skipped: vm.max_map_count is too large to be reached");
        };
        spawning_fails_and_recovers(&runtime, &["for another task stack", "vm.max_map_count"], || filler.remove());
    });
}

#[test]
fn threads_run_out() {
    case("threads_run_out", || {
        // The limit does not hit root.
        // SAFETY: changes who this process is, which it may lose for its last minute.
        unsafe {
            if libc::geteuid() == 0 {
                check(libc::setresgid(65534, 65534, 65534));
                check(libc::setresuid(65534, 65534, 65534));
            }
        }
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let handle = runtime.handle();
        let counted = Arc::new(Mutex::new(0));
        // Blocks the only worker until somebody tells it to go on.
        let (go_on, told) = mpsc::channel::<()>();
        let (blocks, is_blocked) = mpsc::channel();
        limit(libc::RLIMIT_NPROC, 0);
        let blocked = handle
            .spawn(move || {
                task::blocking(|| {
                    blocks.send(()).unwrap();
                    told.recv().unwrap();
                })
            })
            .unwrap();
        is_blocked.recv().unwrap();
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let (counted, go_on) = (counted.clone(), go_on.clone());
                let body = move || {
                    *counted.lock() += 1;
                    if n == 50 {
                        go_on.send(()).unwrap();
                    }
                };
                handle.spawn(body).unwrap()
            })
            .collect();
        let start = Instant::now();
        while handle.starved() == 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody looks for a stand-in");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!((*counted.lock(), handle.threads()), (0, 1), "no thread could be had");
        let error = Runtime::builder().workers(1).build().unwrap_err().to_string();
        assert!(error.contains("ulimit -u"), "{error}");
        // One of the tasks lets the worker go on: only a stand-in can run it.
        limit(libc::RLIMIT_NPROC, libc::RLIM_INFINITY);
        blocked.join().unwrap();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert!(*counted.lock() == 100 && handle.threads() >= 2);
    });
}
