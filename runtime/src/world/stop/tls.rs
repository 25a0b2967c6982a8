//! Where a thread's thread-local variables lie.
//!
//! What glibc keeps around the thread pointer (musl and others: only the static part is known):
//!
//! ```text
//!   x86_64    … stack │ static blocks of the modules │ control block (struct pthread) …
//!                                                    └─ thread pointer
//!   aarch64   … stack │ control block │ 16 bytes │ static blocks of the modules …
//!                                     └─ thread pointer
//! ```
//!
//! The static blocks are at the same distance from the thread pointer in every thread. How far they reach is measured
//! in the requester, before the stop; a module that is loaded between that and the stop is not seen. The control block holds the first values of `pthread_setspecific`; the others are in memory of `malloc`.
//!
//! Modules that were loaded by `dlopen` have blocks of `malloc`'s, one a thread, which the thread's vector (DTV) points to.
//! The vector of a stopped thread may be in the middle of being replaced; what it says is therefore read as one reads
//! memory that need not be there, and a block is taken only if its module is known.

use std::ops::Range;

use libc::dl_phdr_info;

use crate::{sys::raw, world::modules::for_each_module};

/// More than a control block has: 2304 bytes in glibc 2.36.
const CONTROL_BLOCK: usize = 4096;
/// A static part that is larger would be larger than the stacks that contain it.
const MOST: usize = 1 << 20;

/// Modules with thread-local variables. A program with more has some whose dynamic blocks are not found, and says so.
const MAX_MODULES: usize = 128;

/// A module that has thread-local variables.
#[derive(Clone, Copy, Debug, Default)]
struct Module {
    id: usize,
    size: usize,
}

/// What was found out before the stop.
#[derive(Clone, Debug)]
pub(super) struct Modules {
    list: [Module; MAX_MODULES],
    count: usize,
    /// Bytes from the thread pointer to the far end of the static blocks.
    reach: usize,
    /// Whether there were more than the table holds.
    overflow: bool,
}

struct Search {
    found: Modules,
    thread_pointer: usize,
}

/// Lists the modules. Takes the loader's lock, so it must be done before anybody is stopped.
pub(super) fn modules() -> Modules {
    let found = Modules { list: [Module::default(); MAX_MODULES], count: 0, reach: 0, overflow: false };
    let mut search = Search { found, thread_pointer: raw::thread_pointer() };
    for_each_module(|module, _| {
        search.add(module);
        true
    });
    search.found
}

impl Search {
    fn add(&mut self, info: &dl_phdr_info) {
        if info.dlpi_tls_modid == 0 {
            return;
        }
        // SAFETY: the loader gives the module's own program headers.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let Some(size) = headers.iter().find(|header| header.p_type == libc::PT_TLS).map(|h| h.p_memsz as usize) else {
            return;
        };
        let found = &mut self.found;
        match found.list.get_mut(found.count) {
            Some(module) => {
                *module = Module { id: info.dlpi_tls_modid, size };
                found.count += 1;
            }
            None => found.overflow = true,
        }
        let block = info.dlpi_tls_data as usize;
        if block != 0 {
            let reach = if cfg!(target_arch = "x86_64") {
                self.thread_pointer.wrapping_sub(block)
            } else {
                (block + size).wrapping_sub(self.thread_pointer)
            };
            // A block that lies elsewhere is one of `malloc`'s.
            if reach <= MOST {
                found.reach = found.reach.max(reach);
            }
        }
    }
}

impl Modules {
    /// The range around a thread pointer that holds the static blocks and the control block; it may reach a little over
    /// the mapping that contains them.
    pub(super) fn around(&self, thread_pointer: usize) -> Range<usize> {
        let reach = self.reach;
        let (below, above) = if cfg!(target_arch = "x86_64") { (reach, CONTROL_BLOCK) } else { (CONTROL_BLOCK, reach) };
        thread_pointer.saturating_sub(below)..thread_pointer.saturating_add(above)
    }

    /// Gives every block of `malloc`'s that the vector of a thread points to. `false`: some could not be found.
    pub(super) fn dynamic(&self, process: i32, thread_pointer: usize, mut block: impl FnMut(Range<usize>)) -> bool {
        const WORD: usize = size_of::<usize>();
        if thread_pointer == 0 {
            return true;
        }
        if cfg!(not(target_env = "gnu")) {
            return false;
        }
        let word = |address: usize| {
            let mut word = [0];
            (raw::copy(process, address, &mut word) == WORD as isize).then_some(word[0])
        };
        let place = if cfg!(target_arch = "x86_64") { thread_pointer + WORD } else { thread_pointer };
        // Entries of two words each: the first holds a generation, the one before it the number of the others.
        let Some(vector) = word(place).filter(|vector| *vector > 2 * WORD) else { return false };
        let Some(length) = word(vector - 2 * WORD) else { return false };
        let area = self.around(thread_pointer);
        let mut all = !self.overflow;
        for module in &self.list[..self.count] {
            if module.id > length {
                continue; // loaded after the vector was made, and not used by this thread
            }
            match word(vector + 2 * WORD * module.id) {
                // Not used by this thread yet.
                Some(0 | usize::MAX) => {}
                Some(start) if area.contains(&start) => {}
                Some(start) => block(start..start.saturating_add(module.size)),
                None => all = false,
            }
        }
        all
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ptr;

    use super::*;

    thread_local! {
        static LOCAL: u64 = const { 7 };
    }

    #[test]
    fn a_thread_local_variable_is_in_the_static_part() {
        let found = modules();
        assert!(found.count > 0 && !found.overflow);
        let copy = found.clone();
        std::thread::spawn(move || {
            let area = copy.around(raw::thread_pointer());
            LOCAL.with(|local| assert!(area.contains(&(ptr::from_ref(local) as usize))));
        })
        .join()
        .unwrap();
        let mut blocks = 0;
        assert!(found.dynamic(raw::process_id(), raw::thread_pointer(), |_| blocks += 1));
        assert_eq!(blocks, 0, "no module was loaded later");
    }
}
