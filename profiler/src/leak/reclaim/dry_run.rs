//! Could a task be unwound? Walks its stack as an unwinder would, by the same tables, and runs nothing.
//!
//! From where the task continues up to the runtime's own first frame, each function must have a table that tells its caller
//! (`.eh_frame`), must be Rust's, and must let a panic pass at the very call at which it stands ([`lsda`](super::lsda)). The last
//! that is met must catch it.
//!
//! A function that must not be unwound (`extern "C"`) and has something to drop looks like any other there: it runs the
//! destructors, and then ends the process by a call to a function of the core library. So the instructions of each
//! function are searched for such a call ([`code`](super::code)).
//!
//! A function is Rust's if it has the personality that ours have, or, without one, the mangled name of one. C functions have
//! neither, even where their tables would let an unwinder through. In a program without symbols a Rust function that has no
//! destructors to run looks like a foreign one, and is taken for one.
//!
//! What tables say of an address is worked out once for each address: leaked tasks mostly stand at the same few.

use std::{collections::HashMap, ops::Range, ptr, slice};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, NativeEndian, Pointer, RegisterRule, UnwindContext, UnwindSection,
    X86_64,
};
use greenprof_runtime::world::{for_each_module, reclaim::Seized};
use libc::dl_phdr_info;

use super::{
    Refusal, code,
    lsda::{self, Action},
};
use crate::symbolize::{self, Symbolizer};

/// More frames than a stack has.
const MOST_FRAMES: usize = 1 << 16;

/// A loaded module, as far as unwinding needs it. Its tables are copied: it may be unloaded at any time.
struct Module {
    /// All that is mapped of it.
    extent: Range<usize>,
    /// What is readable and neither written nor executed, by address.
    constants: Vec<(usize, Vec<u8>)>,
    /// The address of the header of `.eh_frame`.
    header: usize,
}

/// Where a register of the caller is, counted from the frame's upper end; `None` if the register is the caller's still.
type Saved = Option<i64>;

/// What the tables say of an instruction.
#[derive(Clone, Debug)]
struct Step {
    /// The register and the offset that give the frame's upper end.
    from_frame_pointer: bool,
    offset: i64,
    return_address: i64,
    frame_pointer: Saved,
    action: Action,
    refusal: Option<Refusal>,
}

/// Looks at tasks one after another.
pub(super) struct DryRun {
    modules: Vec<Module>,
    /// The personality of Rust functions, where it begins; 0 if it was not found.
    personality: usize,
    /// What a function calls that must not be unwound.
    endings: Vec<usize>,
    steps: HashMap<(usize, bool), Result<Step, Refusal>>,
}

/// A function that has a personality, as it catches.
#[inline(never)]
fn with_personality() -> bool {
    std::panic::catch_unwind(|| std::hint::black_box(true)).is_ok()
}

impl DryRun {
    pub(super) fn new() -> Self {
        let mut modules = Vec::new();
        for_each_module(|info, _| {
            modules.extend(Module::copy(info));
            true
        });
        with_symbols(Symbolizer::refresh);
        let mut run = Self { modules, personality: 0, endings: Vec::new(), steps: HashMap::new() };
        // Somewhere in this function or the next: the catching one may not have been inlined.
        let own = personality_of_a_panic(&run);
        run.personality = own.unwrap_or(0);
        run.endings = endings(&run).unwrap_or_default();
        run
    }

    /// Why a task must not be unwound, if so.
    pub(super) fn of(&mut self, task: &Seized) -> Result<(), Refusal> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Refusal::NoTables(task.continuation().pc));
        }
        let (stack, program) = (task.stack(), task.frames());
        let start = task.continuation();
        let (mut pc, mut sp, mut frame_pointer) = (start.pc, start.sp, start.frame_pointer);
        let word = |address: usize| {
            let fits = address.is_multiple_of(size_of::<usize>())
                && stack.start <= address
                && address <= stack.end - size_of::<usize>();
            // SAFETY: inside of the stack of a task that is held still.
            fits.then(|| unsafe { (address as *const usize).read_volatile() })
        };
        let mut caught = false;
        for depth in 0..MOST_FRAMES {
            let step = self.step(pc, depth == 0)?;
            if let Some(refusal) = step.refusal {
                return Err(refusal);
            }
            caught = match step.action {
                Action::Passes => caught,
                Action::Catches => true,
                Action::Ends => return Err(Refusal::NoUnwind(named(pc))),
            };
            let base = if step.from_frame_pointer { frame_pointer } else { sp };
            let end = base.wrapping_add_signed(step.offset as isize);
            // Each frame lies above the one that it has called.
            if end <= sp {
                return Err(Refusal::NoTables(pc));
            }
            if end >= program.end {
                // The runtime's own frame comes next, which unwinding does not reach.
                return if caught { Ok(()) } else { Err(Refusal::NoTables(pc)) };
            }
            let at = |offset: i64| end.wrapping_add_signed(offset as isize);
            let caller = word(at(step.return_address)).ok_or(Refusal::NoTables(pc))?;
            if let Some(offset) = step.frame_pointer {
                frame_pointer = word(at(offset)).ok_or(Refusal::NoTables(pc))?;
            }
            (pc, sp) = (caller, end);
        }
        Err(Refusal::NoTables(pc))
    }

    /// What the tables say of an address: of an instruction that is about to run, or of the call before it.
    fn step(&mut self, pc: usize, exact: bool) -> Result<Step, Refusal> {
        if let Some(known) = self.steps.get(&(pc, exact)) {
            return known.clone();
        }
        let step = self.look_up(if exact { pc } else { pc.wrapping_sub(1) }, exact);
        self.steps.insert((pc, exact), step.clone());
        step
    }

    fn look_up(&self, address: usize, exact: bool) -> Result<Step, Refusal> {
        let missing = || Refusal::NoTables(address);
        let module = self.module(address).ok_or_else(missing)?;
        let found = module.entry(address).ok_or_else(missing)?;
        let Entry { start, end, row, lsda, personality } = found;
        let mut step = row.ok_or_else(missing)?;
        step.refusal = match personality {
            Some(personality) if self.personality != 0 && personality == self.personality => None,
            Some(_) => Some(Refusal::Foreign(named(address))),
            None if is_rust(address) => None,
            None => Some(Refusal::Foreign(named(address))),
        };
        // Without knowing what to look for, any function may be one of those.
        let code = code::read(start..end).ok_or_else(missing)?;
        if self.endings.is_empty() || code::calls(start, &code).any(|called| self.endings.contains(&called)) {
            step.refusal = step.refusal.or_else(|| Some(Refusal::NoUnwind(named(address))));
        }
        // Where the task continues it only returns.
        if let (Some(lsda), false) = (lsda, exact) {
            let table = module.constant(lsda).ok_or_else(missing)?;
            step.action = lsda::action(table, (address - start) as u64).ok_or_else(missing)?;
        }
        Ok(step)
    }

    fn module(&self, address: usize) -> Option<&Module> {
        self.modules.iter().find(|module| module.extent.contains(&address))
    }
}

/// The personality of the functions by which a panic is caught.
fn personality_of_a_panic(run: &DryRun) -> Option<usize> {
    assert!(with_personality());
    let function = with_personality as fn() -> bool as usize;
    let of = |address: usize| run.module(address)?.entry(address)?.personality;
    // In a debug build the catching is done by a function of its own, which any function with a destructor will stand in for.
    of(function).or_else(|| of(drops_on_unwind as fn(&str) -> usize as usize))
}

/// The functions by which one ends the process that must not be unwound: all that this one calls by name.
fn endings(run: &DryRun) -> Option<Vec<usize>> {
    let function = must_not_unwind as *const () as usize;
    let Entry { start, end, .. } = run.module(function)?.entry(function)?;
    let code = code::read(start..end)?;
    Some(code::calls(start, &code).filter(|called| !(start..end).contains(called)).collect())
}

/// What it calls itself, it calls by a pointer.
#[inline(never)]
extern "C" fn must_not_unwind(call: extern "C-unwind" fn()) {
    call();
}

/// A function with something to drop while it unwinds.
#[inline(never)]
fn drops_on_unwind(text: &str) -> usize {
    let text = std::hint::black_box(text.to_owned());
    std::hint::black_box(may_panic as fn(usize) -> usize)(text.len())
}

fn may_panic(length: usize) -> usize {
    assert_ne!(length, usize::MAX, "no text is so long");
    length
}

/// What the tables have of a function.
struct Entry {
    start: usize,
    end: usize,
    /// `None` if the rules are others than those of compilers.
    row: Option<Step>,
    lsda: Option<usize>,
    /// Where it begins.
    personality: Option<usize>,
}

impl Module {
    /// Called by the loader, while nobody unloads the module.
    fn copy(info: &dl_phdr_info) -> Option<Self> {
        // SAFETY: the loader gives the module's own program headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let base = info.dlpi_addr as usize;
        let range = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let header = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(range)?.start;
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let extent = loaded().map(range).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        let is_constant =
            |header: &&libc::Elf64_Phdr| header.p_flags & (libc::PF_R | libc::PF_W | libc::PF_X) == libc::PF_R;
        let constants = loaded().filter(is_constant).map(range).map(|range| {
            // SAFETY: a loaded segment that may be read, as long as the loader keeps the module.
            (range.start, unsafe { slice::from_raw_parts(range.start as *const u8, range.len()) }.to_vec())
        });
        Some(Self { extent, constants: constants.collect(), header })
    }

    /// What lies at an address and behind it.
    fn constant(&self, address: usize) -> Option<&[u8]> {
        self.constants.iter().find_map(|(start, bytes)| bytes.get(address.checked_sub(*start)?..))
    }

    /// What a pointer of the tables leads to. Those to a personality lie in memory that is written when the module is loaded.
    fn follow(&self, pointer: Pointer) -> Option<usize> {
        match pointer {
            Pointer::Direct(address) => Some(address as usize),
            Pointer::Indirect(at) => {
                let at = at as usize;
                let fits = at.is_multiple_of(size_of::<usize>())
                    && self.extent.contains(&at)
                    && self.extent.contains(&(at + size_of::<usize>() - 1));
                // SAFETY: a word of the module's variables, to which its own tables point. It is loaded: functions of it are
                // on a stack, or are ours.
                fits.then(|| unsafe { ptr::read_volatile(at as *const usize) })
            }
        }
    }

    fn entry(&self, address: usize) -> Option<Entry> {
        let bases = BaseAddresses::default().set_eh_frame_hdr(self.header as u64);
        let header = EhFrameHdr::new(self.constant(self.header)?, NativeEndian).parse(&bases, 8).ok()?;
        let frames_at = header.eh_frame_ptr().direct().ok()?;
        let bases = bases.set_eh_frame(frames_at);
        let frames = EhFrame::new(self.constant(frames_at as usize)?, NativeEndian);
        let table = header.table()?;
        let entry = table.fde_for_address(&frames, &bases, address as u64, EhFrame::cie_from_offset).ok()?;
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&frames, &bases, &mut context, address as u64).ok()?;
        Some(Entry {
            start: entry.initial_address() as usize,
            end: entry.end_address() as usize,
            row: step(row),
            lsda: entry.lsda().and_then(|pointer| self.follow(pointer)),
            personality: entry.personality().and_then(|pointer| self.follow(pointer)),
        })
    }
}

/// The rules, if they are of the usual shape.
fn step(row: &gimli::UnwindTableRow<usize>) -> Option<Step> {
    let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
    let from_frame_pointer = match register {
        X86_64::RSP => false,
        X86_64::RBP => true,
        _ => return None,
    };
    let Some(RegisterRule::Offset(return_address)) = row.register(X86_64::RA) else { return None };
    let frame_pointer = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => None,
        Some(RegisterRule::Offset(offset)) => Some(offset),
        Some(_) => return None,
    };
    Some(Step { from_frame_pointer, offset, return_address, frame_pointer, action: Action::Passes, refusal: None })
}

/// Whether a function has a name as rustc makes them.
fn is_rust(address: usize) -> bool {
    with_symbols(|symbolizer| symbolizer.resolve(address).last().is_some_and(|frame| is_rust_name(&frame.raw_name)))
}

/// `_R...`, or `_ZN...17h0123456789abcdefE`: C++ has neither.
fn is_rust_name(name: &str) -> bool {
    if rustc_demangle::try_demangle(name).is_err() {
        return false;
    }
    let is_hash = |(_, rest): (&str, &str)| {
        rest.split_once('E').is_some_and(|(hash, _)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.starts_with("_R") || name.rsplit_once("17h").is_some_and(is_hash)
}

/// The function at an address, or the address.
fn named(address: usize) -> String {
    with_symbols(|symbolizer| {
        let frames = symbolizer.resolve(address);
        frames.last().map_or_else(|| format!("{address:#x}"), |frame| frame.function.to_string())
    })
}

fn with_symbols<R>(ask: impl FnOnce(&mut Symbolizer) -> R) -> R {
    ask(&mut symbolize::shared().lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_are_told_from_others() {
        for name in [
            "_RNvCskwGfYPst2Cb_3foo16example_function",
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.123",
        ] {
            assert!(is_rust_name(name), "{name}");
        }
        for name in ["qsort", "_ZN3foo3barEv", "_ZNSt6vectorIiSaIiEE9push_backEOi", "", "17h", "rust_eh_personality"] {
            assert!(!is_rust_name(name), "{name}");
        }
    }

    /// The tables of this program know its functions, and the personality that they share.
    #[test]
    fn own_functions_are_looked_up() {
        let run = DryRun::new();
        assert_ne!(run.personality, 0);
        let own = run.look_up(drops_on_unwind as fn(&str) -> usize as usize + 1, true).expect("tables");
        assert_eq!(own.refusal, None);
        let foreign = run.look_up(libc::qsort as *const () as usize + 1, true);
        assert!(matches!(foreign, Err(_) | Ok(Step { refusal: Some(Refusal::Foreign(_)), .. })), "{foreign:?}");
        assert_eq!(run.look_up(8, true).unwrap_err(), Refusal::NoTables(8));
        let ends = run.look_up(must_not_unwind as *const () as usize + 1, true).expect("tables");
        assert!(
            matches!(&ends.refusal, Some(Refusal::NoUnwind(name)) if name.ends_with("must_not_unwind")),
            "{ends:?}"
        );
        assert!(run.endings.iter().any(|ending| named(*ending).contains("panic_cannot_unwind")), "{:x?}", run.endings);
    }
}
