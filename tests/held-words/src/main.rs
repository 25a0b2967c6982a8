//! Are the words of handles and guards really there while a function holds them across a wait?
//!
//! A leak scan can only find a handle whose exact word is in a register or in memory. The compiler is free to keep the
//! parts of a word apart, and does so unless the handle's code prevents it. This program looks at its own machine code:
//!
//! 1. Functions of different shapes hold a handle or a guard and call [`wait_here`], which saves the registers that a call
//!    preserves and lists where on the holder's frame each live word is: in a register, or in a stack slot.
//! 2. The instructions after the call are decoded. At least one of the places must be used afterwards, before it is
//!    overwritten: otherwise what was found is a stale copy, and the live value is somewhere else, in pieces.
//!
//! Which words are alive is asked of the primitives' own tables ([`world::handle_words`]), so the functions under test are
//! not disturbed. It is a program, not a test, so that it can be built in each build profile.

mod machine_code;

use std::{arch::naked_asm, cell::RefCell, process::ExitCode, sync::LazyLock};

use greenprof_runtime::{
    Runtime, spawn,
    sync::{Chan, Condvar, Mutex, RwLock, WaitGroup},
    world, yield_now,
};
use machine_code::{Frame, Place, used_after};

/// What a call preserves, as `wait_here` pushes it, and the return address above.
#[repr(C)]
struct Saved {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    return_address: u64,
}

thread_local! {
    /// What went wrong at the wait of the case under way; one entry a wait.
    static FINDINGS: RefCell<Vec<Result<String, String>>> = const { RefCell::new(Vec::new()) };
}

/// A wait. Shows the caller's preserved registers and stack to [`inspect`].
#[unsafe(naked)]
extern "C" fn wait_here(expected: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rsi, rsp",
        "sub rsp, 8",
        "call {inspect}",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        inspect = sym inspect,
    )
}

/// Looks for `expected` live words in the caller's frame and registers, and then waits for real.
extern "C" fn inspect(expected: usize, saved: *const Saved) {
    // SAFETY: `wait_here` passes what it has pushed.
    let saved = unsafe { &*saved };
    let frame = Frame {
        registers: [("rbx", saved.rbx), ("r12", saved.r12), ("r13", saved.r13), ("r14", saved.r14), ("r15", saved.r15)],
        sp: std::ptr::from_ref(saved) as u64 + size_of::<Saved>() as u64,
        frame_pointer: saved.rbp,
        return_address: saved.return_address,
    };
    let mut found = 0;
    let mut result = Ok(String::new());
    for word in world::handle_words() {
        // SAFETY: the holder's frame lies between its stack pointer and its frame pointer.
        let places = unsafe { frame.places_of(word) };
        if places.is_empty() {
            continue; // held by something else than this function
        }
        found += 1;
        // SAFETY: the return address is inside the holder.
        let used: Vec<&Place> = places.iter().filter(|place| unsafe { used_after(&frame, place) }).collect();
        result = match result {
            Ok(text) if !used.is_empty() => Ok(format!("{text} {word:#x} in {used:?}")),
            Ok(_) => Err(format!("{word:#x} is in {places:?}, but none of them is used after the wait")),
            error => error,
        };
    }
    if found < expected && result.is_ok() {
        result = Err(format!("{expected} words are held, {found} are in the frame"));
    }
    FINDINGS.with_borrow_mut(|findings| findings.push(result));
    yield_now();
}

static SHARED: LazyLock<Chan<u32>> = LazyLock::new(Chan::new);
static LOCK: Mutex<u32> = Mutex::new(1);
static VALUES: RwLock<u32> = RwLock::new(1);
static CHANGED: Condvar = Condvar::new();
static GROUP: LazyLock<WaitGroup> = LazyLock::new(WaitGroup::new);

/// A handle made, never used, and dropped: nothing forces it into memory.
#[inline(never)]
extern "C" fn fresh_channel() {
    let chan = Chan::<u32>::new();
    wait_here(1);
    drop(chan);
}

#[inline(never)]
extern "C" fn clone_never_touched() {
    let chan = SHARED.clone();
    wait_here(1);
    drop(chan);
}

#[inline(never)]
extern "C" fn two_clones() {
    let first = SHARED.clone();
    let second = SHARED.clone();
    wait_here(2);
    drop(first);
    drop(second);
}

#[inline(never)]
extern "C" fn touched_and_moved() {
    let chan = SHARED.clone();
    let _ = std::hint::black_box(chan.len());
    let moved = Some(chan);
    wait_here(1);
    if let Some(chan) = moved {
        let _ = std::hint::black_box(chan.len());
    }
}

#[inline(never)]
extern "C" fn wait_group() {
    let group = GROUP.clone();
    group.add(1);
    wait_here(1);
    group.done();
}

#[inline(never)]
extern "C" fn guard() {
    let guard = LOCK.lock();
    wait_here(1);
    drop(guard);
}

#[inline(never)]
extern "C" fn guard_used() {
    let mut guard = LOCK.lock();
    *guard += 1;
    wait_here(1);
    *guard += 1;
}

#[inline(never)]
extern "C" fn guard_and_handle() {
    let chan = SHARED.clone();
    let guard = LOCK.lock();
    wait_here(2);
    drop(chan);
    drop(guard);
}

#[inline(never)]
extern "C" fn read_guard() {
    let guard = VALUES.read();
    wait_here(1);
    drop(guard);
}

#[inline(never)]
extern "C" fn read_guards_used() {
    let first = VALUES.read();
    let second = VALUES.read();
    let _ = std::hint::black_box(*first);
    wait_here(2);
    let _ = std::hint::black_box(*first + *second);
}

#[inline(never)]
extern "C" fn write_guard() {
    let guard = VALUES.write();
    wait_here(1);
    drop(guard);
}

#[inline(never)]
extern "C" fn write_guard_used_and_moved() {
    let mut guard = VALUES.write();
    *guard += 1;
    let mut moved = Some(guard);
    wait_here(1);
    if let Some(guard) = &mut moved {
        **guard += 1;
    }
}

/// The guard that comes back from a wait is another than the one that went in.
#[inline(never)]
extern "C" fn guard_after_condvar() {
    let guard = LOCK.lock();
    spawn(|| {
        drop(LOCK.lock()); // free only when the other waits
        CHANGED.notify_one();
    });
    let guard = CHANGED.wait(guard);
    wait_here(1);
    drop(guard);
}

/// A condition variable has its word from its first use on.
#[inline(never)]
extern "C" fn condvar() {
    let condvar = Condvar::new();
    let guard = LOCK.lock();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(LOCK.lock());
            condvar.notify_one();
        });
        drop(condvar.wait(guard));
    });
    wait_here(1);
    condvar.notify_one();
}

fn main() -> ExitCode {
    let _ = (SHARED.len(), &*GROUP);
    let cases: [(&str, extern "C" fn()); 14] = [
        ("fresh_channel", fresh_channel),
        ("clone_never_touched", clone_never_touched),
        ("two_clones", two_clones),
        ("touched_and_moved", touched_and_moved),
        ("wait_group", wait_group),
        ("guard", guard),
        ("guard_used", guard_used),
        ("guard_and_handle", guard_and_handle),
        ("read_guard", read_guard),
        ("read_guards_used", read_guards_used),
        ("write_guard", write_guard),
        ("write_guard_used_and_moved", write_guard_used_and_moved),
        ("guard_after_condvar", guard_after_condvar),
        ("condvar", condvar),
    ];
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let mut failures = 0;
    for (name, case) in cases {
        let findings = runtime.run(move || {
            let task = spawn(move || {
                case();
                FINDINGS.take()
            });
            task.join().expect("no panic")
        });
        for finding in findings {
            match finding {
                Ok(places) => println!("ok      {name}:{places}"),
                Err(reason) => {
                    failures += 1;
                    println!("FAILED  {name}: {reason}");
                }
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
