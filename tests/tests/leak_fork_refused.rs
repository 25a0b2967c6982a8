//! Where a copy of the process cannot be made, or is not what the process is, the process itself is looked at.

use std::{mem, ptr, thread, time::Duration};

use greenprof_profiler::leak::{self, Mode, NotCopied, Options, Report};
use greenprof_runtime::{Runtime, heap::Heap, sync::Chan, task, world::Patience};

#[global_allocator]
static HEAP: Heap = Heap::new();

const LEAKED: usize = 50;
const PAGE: usize = 4096;

#[inline(never)]
fn forget(count: usize) {
    for _ in 0..count {
        let channel: Chan<u8> = Chan::new();
        let receiver = channel.clone();
        let _ = task::Builder::new().name("forgotten").spawn(move || receiver.recv()).expect("a task");
    }
}

#[inline(never)]
fn detect() -> Box<Report> {
    let mut options = Options::default();
    options.mode = Mode::Fork;
    options.settle = Duration::from_millis(100);
    options.patience = Patience { deadline: Duration::from_secs(2), attempts: 5 };
    leak::detect_with(&options).expect("a report")
}

/// The report is that of the stopped process, with all that belongs to it.
fn expect(reason: NotCopied) {
    let report = detect();
    assert_eq!((report.mode, report.not_copied), (Mode::Stop, Some(reason)));
    assert_eq!((report.incomplete(), report.errors), (None, 0));
    assert!(report.leaked().len() >= LEAKED - 2, "{}", report.leaked().len());
    assert!(report.leaked().iter().all(|leak| leak.task.name.as_deref() == Some("forgotten")));
}

fn expect_a_copy() {
    let report = detect();
    assert_eq!((report.mode, report.not_copied), (Mode::Fork, None));
    assert!(report.leaked().len() >= LEAKED - 2, "{}", report.leaked().len());
}

/// A thread that sleeps until it is told, on a stack that is shared memory.
fn on_a_shared_stack(work: impl FnOnce()) {
    const BYTES: usize = 1 << 20;
    extern "C" fn wait(pipe: *mut libc::c_void) -> *mut libc::c_void {
        let mut byte = 0_u8;
        // SAFETY: one byte is read to a local; the descriptor is the pipe's.
        unsafe { libc::read(pipe as libc::c_int, ptr::from_mut(&mut byte).cast(), 1) };
        ptr::null_mut()
    }
    // SAFETY: the stack is unmapped when the thread has ended, and all else is as the functions ask for.
    unsafe {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let stack = libc::mmap(ptr::null_mut(), BYTES, access, flags, -1, 0);
        assert_ne!(stack, libc::MAP_FAILED);
        let mut pipe = [0; 2];
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let (mut attributes, mut thread) = (mem::zeroed(), mem::zeroed());
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, stack, BYTES), 0);
        let argument = ptr::without_provenance_mut(pipe[0] as usize);
        assert_eq!(libc::pthread_create(&mut thread, &attributes, wait, argument), 0);
        work();
        assert_eq!(libc::write(pipe[1], [1_u8].as_ptr().cast(), 1), 1);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
        libc::pthread_attr_destroy(&mut attributes);
        pipe.iter().for_each(|end| assert_eq!(libc::close(*end), 0));
        libc::munmap(stack, BYTES);
    }
}

/// From now on the calling thread, and those that it makes, are refused new processes.
fn refuse_processes() {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut filter = [
        statement(load, 0, 0, NUMBER),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, libc::SYS_clone as u32),
        statement(load, 0, 0, FIRST_ARGUMENT),
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, 0, libc::CLONE_THREAD as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// Keeps a page of the heap from children, or gives it back to them.
fn advise(memory: &[u8], advice: libc::c_int) {
    let page = (memory.as_ptr() as usize).next_multiple_of(PAGE);
    // SAFETY: a page inside of the block; what children get does not matter to this process.
    assert_eq!(unsafe { libc::madvise(ptr::without_provenance_mut(page), PAGE, advice) }, 0);
}

/// One test: they change what all of the process may do.
#[test]
fn the_process_itself_answers() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| forget(LEAKED));
    thread::scope(|scope| {
        scope.spawn(expect_a_copy);
    });
    let kept = vec![1_u8; 64 * PAGE];
    advise(&kept, libc::MADV_DONTFORK);
    expect(NotCopied::Died);
    advise(&kept, libc::MADV_DOFORK);
    expect_a_copy();
    advise(&kept, libc::MADV_WIPEONFORK);
    expect(NotCopied::Differs);
    advise(&kept, libc::MADV_KEEPONFORK);
    expect_a_copy();
    on_a_shared_stack(|| expect(NotCopied::Differs));
    expect_a_copy();
    refuse_processes();
    expect(NotCopied::Refused(libc::EPERM));
    assert_eq!(kept, vec![1; 64 * PAGE]);
}
