//! The modules of the process and their rows, and the pointer by which the signal handler finds them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    ptr, slice,
    sync::atomic::{AtomicPtr, Ordering},
};

use greenprof_runtime::{heap, world::for_each_module};
use libc::dl_phdr_info;
use parking_lot::Mutex;

use super::{
    compile::{self, Sections},
    rule::{Rule, Table},
    step::{Frame, Stepped},
};

/// A module: the executable part of a file, or of what the kernel maps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Module {
    code: Range<usize>,
    /// To which the rows are relative.
    base: usize,
    table: &'static Table,
}

/// The modules that the process had at some time, by address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Modules(&'static [Module]);

/// The newest list; null before the first. Written under `KNOWN`.
static CURRENT: AtomicPtr<Modules> = AtomicPtr::new(ptr::null_mut());

/// What was made so far. Guards the making of lists and rows, which is done by one thread at a time.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

#[derive(Default)]
struct Known {
    /// How many modules were loaded and unloaded when the newest list was made.
    changes: (u64, u64),
    /// Tables by what they were made from: a file that is loaded again has its table already.
    tables: HashMap<(usize, u64), &'static Table>,
    lists: Vec<&'static Modules>,
}

/// The newest list. May be called in a signal handler.
pub(crate) fn current() -> &'static Modules {
    static NONE: Modules = Modules(&[]);
    // SAFETY: null, or a leaked list. Acquire: pairs with the Release in `refresh`.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.unwrap_or(&NONE)
}

impl Modules {
    /// Goes from a frame to its caller's. Its address is `exact` if it is that of an interrupted instruction.
    /// `frameless` says where the caller is if the code keeps frame pointers and has none at this instruction.
    ///
    /// # Safety
    /// All of `stack` must be readable for the whole call. It may be written to meanwhile.
    pub(crate) unsafe fn step(
        &self,
        frame: &Frame,
        exact: bool,
        frameless: impl FnOnce() -> Option<u16>,
        stack: &Range<usize>,
    ) -> Stepped {
        // A return address may be the first of the next function.
        let mut rule = self.rule(if exact { frame.pc } else { frame.pc.wrapping_sub(1) });
        if rule == Rule::FramePointer
            && let Some(words) = frameless()
        {
            rule = Rule::FromStackPointer { frame: words, saved: 0 };
        }
        // SAFETY: the caller's promise.
        unsafe { rule.step(frame, stack) }
    }

    fn rule(&self, address: usize) -> Rule {
        let after = self.0.partition_point(|module| module.code.start <= address);
        let Some(module) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return Rule::FramePointer };
        match u32::try_from(address.wrapping_sub(module.base)) {
            Ok(offset) if module.code.contains(&address) => module.table.rule(offset),
            _ => Rule::FramePointer,
        }
    }

    /// Bytes of all rows.
    #[cfg(test)]
    fn size(&self) -> usize {
        self.0.iter().map(|module| module.table.size()).sum()
    }
}

/// Makes a new list if modules were loaded or unloaded since the last one. The first call costs some milliseconds for
/// each MiB of `.eh_frame`, others some hundred nanoseconds.
pub(crate) fn refresh() {
    heap::untracked(|| {
        let mut known = KNOWN.lock();
        let known = known.get_or_insert_default();
        let changes = changes();
        if known.changes != changes {
            known.make_list();
            // Who has loaded one meanwhile is found the next time.
            known.changes = changes;
        }
    });
}

impl Known {
    fn make_list(&mut self) {
        let mut modules: Vec<Module> = found()
            .into_iter()
            .map(|Found { code, sections }| Module { code, base: sections.base as usize, table: self.table(&sections) })
            .collect();
        modules.sort_by_key(|module| module.code.start);
        let list = match self.lists.iter().find(|known| *known.0 == *modules) {
            Some(known) => known,
            None => {
                let list: &'static Modules = Box::leak(Box::new(Modules(modules.leak())));
                self.lists.push(list);
                list
            }
        };
        // Release: pairs with the Acquire in `current`.
        CURRENT.store(ptr::from_ref(list).cast_mut(), Ordering::Release);
    }

    fn table(&mut self, sections: &Sections) -> &'static Table {
        let mut hash = DefaultHasher::new();
        (&sections.header, &sections.frames).hash(&mut hash);
        let key = (sections.frames.len(), hash.finish());
        self.tables.entry(key).or_insert_with(|| Box::leak(Box::new(Table::new(compile::rows(sections)))))
    }
}

struct Found {
    code: Range<usize>,
    sections: Sections,
}

/// How often a module was loaded and unloaded.
fn changes() -> (u64, u64) {
    let mut changes = (0, 0);
    for_each_module(|module, _| {
        changes = (module.dlpi_adds, module.dlpi_subs);
        false
    });
    changes
}

/// The modules, with copies of their sections: one that is unloaded while its rows are made does no harm.
fn found() -> Vec<Found> {
    let mut found = Vec::new();
    for_each_module(|module, _| {
        found.extend(look_at(module));
        true
    });
    found
}

fn look_at(module: &dl_phdr_info) -> Option<Found> {
    // SAFETY: the loader's table of this module, which it does not unload while it calls.
    let headers = unsafe { slice::from_raw_parts(module.dlpi_phdr, module.dlpi_phnum.into()) };
    let range = |header: &libc::Elf64_Phdr| {
        let start = module.dlpi_addr.wrapping_add(header.p_vaddr);
        start..start.saturating_add(header.p_memsz)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let code = loaded().filter(|header| header.p_flags & libc::PF_X != 0).map(range);
    let code = code.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
    let readable =
        |at: u64| loaded().filter(|header| header.p_flags & libc::PF_R != 0).map(range).find(|r| r.contains(&at));
    let copy = |range: Range<u64>| {
        // SAFETY: part of a segment that is mapped and readable, as its header says.
        unsafe { slice::from_raw_parts(range.start as *const u8, (range.end - range.start) as usize) }.to_vec()
    };

    let header = range(headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?);
    let segment = readable(header.start)?;
    let header = header.start..header.end.min(segment.end);
    let header_address = header.start;
    let header = copy(header);
    let frames_address = compile::frames_address(&header, header_address)?;
    // Its length stands nowhere; what follows it is not asked for.
    let frames = copy(frames_address..readable(frames_address)?.end);
    let sections = Sections { base: module.dlpi_addr, header, header_address, frames, frames_address };
    Some(Found { code: code.start as usize..code.end as usize, sections })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_library_has_rows_and_own_code_needs_few() {
        refresh();
        let modules = current();
        let own = refresh as fn() as usize;
        let system = libc::getpid as unsafe extern "C" fn() -> i32 as usize;
        let of = |address: usize| modules.0.iter().find(|module| module.code.contains(&address)).expect("known");
        println!("{} modules, {} KiB of rows", modules.0.len(), modules.size() >> 10);
        assert!(modules.0.is_sorted_by_key(|module| module.code.start));
        if cfg!(target_arch = "x86_64") {
            assert!(of(system).table.rows().len() > 1000);
            assert_eq!(modules.rule(own), Rule::FramePointer);
            assert_ne!(modules.rule(system), Rule::FramePointer);
        }
        assert_eq!(modules.rule(8), Rule::FramePointer);
        assert_eq!(modules.rule(usize::MAX), Rule::FramePointer);
        for module in modules.0 {
            println!("{:#x?} {} rows", module.code, module.table.rows().len());
            assert!(module.table.rows().is_sorted_by_key(|row| row.start));
        }
        let same = undisturbed(|| {
            refresh();
            let before = ptr::from_ref(current());
            refresh();
            ptr::eq(before, current())
        });
        assert!(same, "nothing was loaded");
    }

    /// What `look` finds while no other test, and nothing that it calls, loads or unloads a module.
    fn undisturbed<T>(look: impl Fn() -> T) -> T {
        loop {
            let before = changes();
            let found = look();
            if changes() == before {
                return found;
            }
        }
    }

    #[test]
    fn a_module_that_is_loaded_later_is_found() {
        refresh();
        // SAFETY: a library without initializers that matter, and a name that it exports.
        let (library, function) = unsafe {
            let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!library.is_null(), "a part of every glibc");
            (library, libc::dlsym(library, c"ns_name_ntop".as_ptr()) as usize)
        };
        let known = |address: usize| current().0.iter().any(|module| module.code.contains(&address));
        assert_ne!(function, 0);
        refresh();
        assert!(known(function));
        // SAFETY: nothing of it is used any more.
        unsafe { libc::dlclose(library) };
        // Another test may hold it; if not, it is gone.
        let loaded = || found().iter().any(|found| found.code.contains(&function));
        let (is_known, is_loaded) = undisturbed(|| {
            refresh();
            (known(function), loaded())
        });
        assert_eq!(is_known, is_loaded);
    }
}
