//! The handle, or the only pointer to it, is in a register of a running thread and nowhere else.
//!
//! Assembly takes sixteen bytes out of their place into registers, waits for a flag, and puts them back.

use std::{
    arch::asm,
    mem::ManuallyDrop,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use greenprof_runtime::sync::Chan;

use super::{RECEIVER, receiver, sound, wake};
use crate::leaks::prelude::*;

pub const PROGRAMS: &[&Program] = &[
    sound!(
        "register",
        "A task has the only pointer to the channel in a callee-saved register.",
        "It is alive in the register.",
        |scene| pointer(scene, in_registers, Where::Task),
        RECEIVER
    ),
    sound!(
        "register_of_thread",
        "A thread has the only pointer to the channel in a callee-saved register.",
        "It is alive in the register.",
        |scene| pointer(scene, in_registers, Where::Thread),
        RECEIVER
    ),
    sound!(
        "register_handle",
        "A task has the handle itself in a callee-saved register.",
        "It is alive in the register.",
        |scene| handle(scene, in_registers, Where::Task),
        RECEIVER
    ),
    sound!(
        "xmm",
        "A task has the handle itself in a vector register, as in a swap.",
        "It is alive in the register.",
        |scene| handle(scene, in_vector, Where::Task),
        RECEIVER
    ),
    sound!(
        "xmm_of_thread",
        "A thread has the only pointer to the channel in a vector register.",
        "It is alive in the register.",
        |scene| pointer(scene, in_vector, Where::Thread),
        RECEIVER
    ),
    sound!(
        "ymm",
        "A task has the handle itself in the upper half of a wide vector register.",
        "It is alive in the register.",
        |scene| handle(scene, in_upper_half, Where::Task),
        RECEIVER
    ),
    sound!(
        "red_zone",
        "A task has the only pointer to the channel below its stack pointer, in the red zone.",
        "What is in the red zone is alive.",
        |scene| pointer(scene, in_red_zone, Where::Task),
        RECEIVER
    ),
];

/// Two flags: the first says that the register is loaded, the second that it may be put back.
type Flags = [AtomicU8; 2];

/// Takes the sixteen bytes at `place` into registers, sets the first flag, waits for the second, and puts them back.
///
/// # Safety
/// `place` must be valid for reads and writes of sixteen bytes that nobody else uses.
type Hold = unsafe fn(place: *mut [u64; 2], flags: *const Flags);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Task,
    Thread,
}

/// Spawns somebody who holds what is at the place, and what `after` does with it when it is back.
fn play(scene: &Scene, spot: Where, start: fn(&Scene) -> Place, hold: Hold) {
    let flags: Arc<Flags> = Arc::default();
    let mut place = start(scene);
    let theirs = flags.clone();
    let body = move || {
        // SAFETY: the place is this closure's own, and sixteen bytes large.
        unsafe { hold(place.bytes(), &raw const *theirs) };
        place.wake();
    };
    match spot {
        Where::Task => _ = scene.spawn("spinner", body),
        Where::Thread => _ = thread::spawn(body),
    }
    scene.until_that(|| flags[0].load(Ordering::SeqCst) == 1);
    scene.settled();
    flags[1].store(1, Ordering::SeqCst);
}

/// Where the bytes come from and go back to. On the heap, so that moving it copies no handle.
enum Place {
    Pointer(Box<[*mut Chan<()>; 2]>),
    Handle(Box<ManuallyDrop<Chan<()>>>),
}

// SAFETY: the pointer is to a box that only this one owns.
unsafe impl Send for Place {}

impl Place {
    fn bytes(&mut self) -> *mut [u64; 2] {
        const { assert!(size_of::<Chan<()>>() == 16) };
        match self {
            Self::Pointer(place) => (&raw mut **place).cast(),
            Self::Handle(place) => (&raw mut **place).cast(),
        }
    }

    fn wake(self) {
        match self {
            // SAFETY: from `Box::into_raw`, and taken back once.
            Self::Pointer(place) => wake(&unsafe { *Box::from_raw(place[0]) }),
            Self::Handle(place) => wake(&ManuallyDrop::into_inner(*place)),
        }
    }
}

fn pointer(scene: &Scene, hold: Hold, spot: Where) {
    play(
        scene,
        spot,
        |scene| Place::Pointer(Box::new([Box::into_raw(Box::new(receiver(scene))), std::ptr::null_mut()])),
        hold,
    );
}

fn handle(scene: &Scene, hold: Hold, spot: Where) {
    play(scene, spot, |scene| Place::Handle(Box::new(ManuallyDrop::new(receiver(scene)))), hold);
}

#[cfg(target_arch = "x86_64")]
unsafe fn in_registers(place: *mut [u64; 2], flags: *const Flags) {
    // SAFETY: the caller's promise; the flags are two bytes.
    unsafe {
        asm!(
            "mov r12, [{place}]",
            "mov r13, [{place} + 8]",
            "mov qword ptr [{place}], 0",
            "mov qword ptr [{place} + 8], 0",
            "mov byte ptr [{flags}], 1",
            "2: pause",
            "cmp byte ptr [{flags} + 1], 0",
            "je 2b",
            "mov [{place}], r12",
            "mov [{place} + 8], r13",
            "xor r12d, r12d",
            "xor r13d, r13d",
            place = in(reg) place, flags = in(reg) flags, out("r12") _, out("r13") _, options(nostack),
        );
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn in_vector(place: *mut [u64; 2], flags: *const Flags) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "movdqu xmm13, xmmword ptr [{place}]",
            "mov qword ptr [{place}], 0",
            "mov qword ptr [{place} + 8], 0",
            "mov byte ptr [{flags}], 1",
            "2: pause",
            "cmp byte ptr [{flags} + 1], 0",
            "je 2b",
            "movdqu xmmword ptr [{place}], xmm13",
            "pxor xmm13, xmm13",
            place = in(reg) place, flags = in(reg) flags, out("xmm13") _, options(nostack),
        );
    }
}

/// In the upper half of a register only. Where there are no such registers, as `in_vector`.
#[cfg(target_arch = "x86_64")]
unsafe fn in_upper_half(place: *mut [u64; 2], flags: *const Flags) {
    if !is_x86_feature_detected!("avx") {
        // SAFETY: the caller's promise.
        return unsafe { in_vector(place, flags) };
    }
    // SAFETY: as above; there are such registers.
    unsafe {
        asm!(
            "vpxor xmm13, xmm13, xmm13",
            "vinsertf128 ymm13, ymm13, xmmword ptr [{place}], 1",
            "mov qword ptr [{place}], 0",
            "mov qword ptr [{place} + 8], 0",
            "mov byte ptr [{flags}], 1",
            "2: pause",
            "cmp byte ptr [{flags} + 1], 0",
            "je 2b",
            "vextractf128 xmmword ptr [{place}], ymm13, 1",
            "vpxor xmm13, xmm13, xmm13",
            place = in(reg) place, flags = in(reg) flags, out("xmm13") _, options(nostack),
        );
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn in_red_zone(place: *mut [u64; 2], flags: *const Flags) {
    // SAFETY: as above. Without `nostack` the compiler keeps nothing below the stack pointer, and signals keep off it.
    unsafe {
        asm!(
            "mov {word}, [{place}]",
            "mov [rsp - 32], {word}",
            "mov {word}, [{place} + 8]",
            "mov [rsp - 24], {word}",
            "xor {word:e}, {word:e}",
            "mov [{place}], {word}",
            "mov [{place} + 8], {word}",
            "mov byte ptr [{flags}], 1",
            "2: pause",
            "cmp byte ptr [{flags} + 1], 0",
            "je 2b",
            "mov {word}, [rsp - 32]",
            "mov [{place}], {word}",
            "mov {word}, [rsp - 24]",
            "mov [{place} + 8], {word}",
            "mov qword ptr [rsp - 32], 0",
            "mov qword ptr [rsp - 24], 0",
            word = out(reg) _, place = in(reg) place, flags = in(reg) flags,
        );
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn in_registers(place: *mut [u64; 2], flags: *const Flags) {
    // SAFETY: the caller's promise; the flags are two bytes.
    unsafe {
        asm!(
            "ldp x22, x23, [{place}]",
            "stp xzr, xzr, [{place}]",
            "strb {one:w}, [{flags}]",
            "2: ldrb {seen:w}, [{flags}, #1]",
            "cbz {seen:w}, 2b",
            "stp x22, x23, [{place}]",
            "mov x22, xzr",
            "mov x23, xzr",
            place = in(reg) place, flags = in(reg) flags, one = in(reg) 1_u64, seen = out(reg) _,
            out("x22") _, out("x23") _, options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn in_vector(place: *mut [u64; 2], flags: *const Flags) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "ldr q8, [{place}]",
            "stp xzr, xzr, [{place}]",
            "strb {one:w}, [{flags}]",
            "2: ldrb {seen:w}, [{flags}, #1]",
            "cbz {seen:w}, 2b",
            "str q8, [{place}]",
            "movi v8.2d, #0",
            place = in(reg) place, flags = in(reg) flags, one = in(reg) 1_u64, seen = out(reg) _, out("v8") _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
use in_vector as in_upper_half;

/// There is no red zone here: a register it is.
#[cfg(target_arch = "aarch64")]
use in_registers as in_red_zone;
