//! The report of a task that has overflowed its stack.
//!
//! The overflow touches the guard, the kernel delivers SIGSEGV, and the handler runs on the thread's alternate signal
//! stack. It looks the address up among the guards, writes one paragraph with `write(2)`, and aborts. A fault at any
//! other address goes to whoever had the signal before: std's handler keeps its message for threads.
//!
//! Everything here runs in a signal handler: no lock, no allocation, no formatting machinery.

use std::{
    ptr,
    sync::{
        Once, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::slab::Slab;
use crate::task::control::Control;

static INSTALL: Once = Once::new();
/// The handler that was there before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
/// Two overflows at once would write over each other.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler, once per process.
pub(crate) fn install_handler() {
    INSTALL.call_once(|| {
        // SAFETY: an all-zero sigaction is valid. Rust's runtime has set its own handler before `main`; ours forwards to it.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGSEGV, ptr::null(), &mut previous);
            let _ = PREVIOUS.set(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut());
        }
    });
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo of a fault.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(control) = Slab::all().find_map(|slab| slab.guard_hit(address)) {
        if !REPORTED.swap(true, Ordering::Relaxed) {
            // SAFETY: control blocks are never unmapped.
            report(unsafe { control.as_ref() });
        }
        // SAFETY: abort may be called in a signal handler.
        unsafe { libc::abort() };
    }
    forward(signal, info, context);
}

fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Set before this handler was installed; reading it is one load.
    let Some(previous) = PREVIOUS.get() else { return };
    // SAFETY: a disposition that is no function is put back, and the fault happens again under it; a function has the
    // type that its flags say.
    unsafe {
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::sigaction(signal, previous, ptr::null_mut());
            }
            function if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let function: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(function);
                function(signal, info, context);
            }
            function => {
                let function: extern "C" fn(libc::c_int) = std::mem::transmute(function);
                function(signal);
            }
        }
    }
}

fn report(control: &Control) {
    let mut text = Text { bytes: [0; 512], length: 0 };
    text.push("\ntask ").number(control.about.id.load(Ordering::Relaxed) as usize);
    let mut name = [0; crate::task::control::NAME_BYTES];
    let length = control.about.copy_name(&mut name);
    if length > 0 {
        text.push(" '").bytes(&name[..length]).push("'");
    }
    if let Some(site) = control.about.spawn_site() {
        text.push(", spawned at ").push(site.file()).push(":").number(site.line() as usize).push(",");
    }
    let stack = control.stack();
    text.push(" has overflowed its stack of ").number((stack.end - stack.start) >> 10);
    text.push(" KiB; give it more with task::Builder::stack_size\n");
    // SAFETY: the buffer is valid for its length; write may be called in a signal handler.
    unsafe { libc::write(libc::STDERR_FILENO, text.bytes.as_ptr().cast(), text.length) };
}

/// A line in the making, cut where the buffer ends.
struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Text {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    fn push(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, mut number: usize) -> &mut Self {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.bytes(&digits[at..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_not_overrun() {
        let mut text = Text { bytes: [0; 512], length: 0 };
        text.push("n = ").number(0).push(", ").number(1_234_567);
        assert_eq!(&text.bytes[..text.length], b"n = 0, 1234567");
        text.push(&"x".repeat(1000));
        assert_eq!(text.length, 512);
    }
}
