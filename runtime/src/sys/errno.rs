//! The calling thread's error number.

/// Leaves the error number as it was. A sleep or a question to the system changes it, and who allocates or frees memory on its
/// way to looking at its own does not expect that.
pub(crate) fn preserved<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the calling thread's error number.
    let error = unsafe { *libc::__errno_location() };
    let result = work();
    // SAFETY: as above; the caller must not change threads meanwhile.
    unsafe { *libc::__errno_location() = error };
    result
}
