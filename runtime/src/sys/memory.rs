//! Anonymous mappings that are reserved large and committed page by page on first touch.

use std::{io, ops::Range, ptr};

/// The page size of every Linux on x86_64, and of the aarch64 kernels that this crate supports.
pub(crate) const PAGE: usize = 4096;

const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Asks the processor for the cache line at `at`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags));
    }
}

/// What takes its place under Miri, which knows mappings without flags only.
#[cfg(miri)]
pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<*mut u8> {
    let layout = std::alloc::Layout::from_size_align(bytes, align).expect("a layout");
    // SAFETY: nobody reserves nothing.
    Ok(unsafe { std::alloc::alloc_zeroed(layout) })
}

/// Reserves `bytes` of zeroed memory, aligned to `align` (a power of two, at least a page). Pages are committed when
/// they are first written, never as huge pages: a parked task should cost one small page, not one of 2 MiB.
#[cfg(not(miri))]
pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<*mut u8> {
    let padded = bytes.checked_add(align - PAGE).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choosing touches no memory of ours.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            padded,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = start.cast::<u8>();
    let head = start.align_offset(align);
    let tail = padded - head - bytes;
    // SAFETY: head, bytes and tail lie next to each other inside the mapping just made; nobody else knows of it yet.
    // A failing munmap or madvise costs address space or memory, not correctness.
    unsafe {
        let aligned = start.add(head);
        if head > 0 {
            libc::munmap(start.cast(), head);
        }
        if tail > 0 {
            libc::munmap(aligned.add(bytes).cast(), tail);
        }
        libc::madvise(aligned.cast(), bytes, libc::MADV_NOHUGEPAGE);
        Ok(aligned)
    }
}

/// Gives a mapping of [`reserve`] back.
///
/// # Safety
/// Nothing may use the range any more.
pub(crate) unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: the caller says that the range is unused.
    unsafe { libc::munmap(start.cast(), bytes) };
}

/// Makes every access to a range of whole pages a fault.
///
/// `MADV_GUARD_INSTALL` (Linux 6.13) does it in the page tables; before that the range becomes a mapping of its own,
/// of which a process has 65 530 unless vm.max_map_count is raised. Which one the kernel has is found by asking.
///
/// # Safety
/// Nothing may use the range.
pub(crate) unsafe fn guard(start: *mut u8, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller says that nothing uses the range.
    unsafe {
        if libc::madvise(start.cast(), bytes, MADV_GUARD_INSTALL) == 0 {
            return Ok(());
        }
        if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
            && libc::mprotect(start.cast(), bytes, libc::PROT_NONE) == 0
        {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// [`guard`] for many ranges, with one system call where the kernel can (6.13).
///
/// # Safety
/// Nothing may use the ranges.
pub(crate) unsafe fn guard_all(ranges: &[Range<usize>]) -> io::Result<()> {
    // SAFETY: the caller says that nothing uses the ranges.
    unsafe {
        if advise_all(ranges, MADV_GUARD_INSTALL) {
            return Ok(());
        }
        ranges.iter().try_for_each(|range| guard(range.start as *mut u8, range.len()))
    }
}

/// [`discard`] for many ranges, with one system call where the kernel can (6.13).
///
/// # Safety
/// Nothing may rely on what the ranges hold.
pub(crate) unsafe fn discard_all(ranges: &[Range<usize>]) {
    // SAFETY: the caller says that the content is not needed.
    unsafe {
        if !advise_all(ranges, libc::MADV_DONTNEED) {
            ranges.iter().for_each(|range| discard(range.start as *mut u8, range.len()));
        }
    }
}

/// The most ranges that one call of `advise_all` takes.
pub(crate) const MOST_RANGES: usize = 64;

/// Whether the advice was taken for all ranges. If not, it may have been for some.
///
/// # Safety
/// As for the advice.
unsafe fn advise_all(ranges: &[Range<usize>], advice: libc::c_int) -> bool {
    /// "This process" in place of a descriptor of it, from Linux 6.14.
    const PIDFD_SELF: libc::c_int = -10001;
    const NOTHING: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    if ranges.len() > MOST_RANGES {
        return false;
    }
    let mut vectors = [NOTHING; MOST_RANGES];
    for (vector, range) in vectors.iter_mut().zip(ranges) {
        *vector = libc::iovec { iov_base: range.start as *mut _, iov_len: range.len() };
    }
    let bytes: usize = ranges.iter().map(Range::len).sum();
    // SAFETY: the caller's promise. An older kernel refuses the descriptor or the advice.
    let done =
        unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, vectors.as_ptr(), ranges.len(), advice, 0) };
    usize::try_from(done).is_ok_and(|done| done == bytes)
}

/// Gives the pages of a range back to the system; they read as zero afterwards.
///
/// # Safety
/// Nothing may rely on what the range holds.
pub(crate) unsafe fn discard(start: *mut u8, bytes: usize) {
    // SAFETY: the caller says that the content is not needed.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED) };
}
