//! The choice of the signal that stops threads. A process of its own, because the choice is made once.

use std::{mem, ptr};

use greenprof_runtime::world::{
    self, Patience,
    stop::{DEFAULT_SIGNAL, StopError, use_signal},
};

extern "C" fn somebody_elses(_: libc::c_int) {}

fn install(signal: i32, handler: usize) {
    // SAFETY: an all-zero action with a handler that does nothing, or the default one.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

#[test]
fn a_signal_of_the_programs_is_left_alone() {
    let signal = libc::SIGRTMIN() + DEFAULT_SIGNAL;
    let theirs = somebody_elses as *const () as usize;
    install(signal, theirs);
    let stop = || world::stop(Patience::default(), |_| ());
    assert!(matches!(stop(), Err(StopError::SignalTaken { signal: taken }) if taken == signal));
    assert!(matches!(use_signal(-1), Err(StopError::NoSuchSignal { offset: -1, .. })));
    assert!(matches!(use_signal(1000), Err(StopError::NoSuchSignal { offset: 1000, most }) if most >= 20));
    use_signal(DEFAULT_SIGNAL + 1).unwrap();
    assert!(stop().unwrap().complete);
    assert!(matches!(use_signal(DEFAULT_SIGNAL), Err(StopError::Chosen)));
    // Somebody takes it away afterwards.
    install(signal + 1, theirs);
    let error = stop().unwrap_err();
    assert!(error.to_string().contains("use_signal"), "{error}");
}
