//! What a function does with a value after a call, read from its machine code (x86_64).

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};

/// A frame of a function that has called, as it was at the call.
#[derive(Debug)]
pub struct Frame {
    /// The registers that a call preserves, by name.
    pub registers: [(&'static str, u64); 5],
    /// The stack pointer after the call will have returned.
    pub sp: u64,
    /// The frame pointer.
    pub frame_pointer: u64,
    /// Where the function continues.
    pub return_address: u64,
}

/// Where a word was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a register.
    Register(&'static str),
    /// At an address.
    Slot(u64),
}

/// A `lea` of an address up to so many bytes below a slot counts as a use: what is passed on is the whole object.
const LARGEST_OBJECT: u64 = 48;

/// The most code that is looked at after a call.
const CODE: u64 = 4096;

impl Frame {
    /// The places of a word in the function's registers and frame.
    ///
    /// # Safety
    /// The stack from `sp` to `frame_pointer` must be readable.
    pub unsafe fn places_of(&self, word: u64) -> Vec<Place> {
        let registers = self.registers.iter().filter(|(_, value)| *value == word);
        let slots = (self.sp..self.frame_pointer).step_by(8).filter(|address| {
            // SAFETY: the caller's promise.
            word == unsafe { (*address as *const u64).read_volatile() }
        });
        registers.map(|(name, _)| Place::Register(name)).chain(slots.map(Place::Slot)).collect()
    }

    fn address(&self, instruction: &Instruction) -> Option<u64> {
        let base = match instruction.memory_base() {
            Register::RSP => self.sp,
            Register::RBP => self.frame_pointer,
            _ => return None,
        };
        (instruction.memory_index() == Register::None).then(|| base.wrapping_add(instruction.memory_displacement64()))
    }
}

/// Whether the code after the call uses the value at `place` before it writes another there.
///
/// The code is read in the order of its addresses, to the last return or trap that nothing jumps behind: an
/// over-approximation of what runs, which is enough to tell a live place from a dead one.
///
/// # Safety
/// The return address must be inside a function's code.
pub unsafe fn used_after(frame: &Frame, place: &Place) -> bool {
    // SAFETY: the code goes on to the end of its page at least, and the decoder stops at the end of the function.
    let code: Vec<u8> =
        (0..CODE).map(|offset| unsafe { ((frame.return_address + offset) as *const u8).read_volatile() }).collect();
    let mut decoder = Decoder::with_ip(64, &code, frame.return_address, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let mut furthest = 0;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let used = match place {
            Place::Register(name) => use_of_register(&mut information, &instruction, name),
            Place::Slot(slot) => use_of_slot(&mut information, &instruction, frame, *slot),
        };
        if let Some(used) = used {
            return used;
        }
        match instruction.flow_control() {
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                furthest = furthest.max(instruction.near_branch_target());
            }
            FlowControl::Return | FlowControl::Exception if instruction.next_ip() > furthest => return false,
            _ => {}
        }
    }
    false
}

/// Whether an instruction uses (`true`) or overwrites (`false`) a register.
fn use_of_register(information: &mut InstructionInfoFactory, instruction: &Instruction, name: &str) -> Option<bool> {
    // The end of one path; the code of others may come behind it.
    if instruction.mnemonic() == Mnemonic::Pop {
        return None;
    }
    let info = information.info(instruction);
    let mut accesses = info
        .used_registers()
        .iter()
        .filter(|used| format!("{:?}", used.register().full_register()).eq_ignore_ascii_case(name))
        .map(|used| used.access() != OpAccess::Write)
        .peekable();
    accesses.peek()?;
    Some(accesses.any(|reads| reads))
}

/// Whether an instruction uses (`true`) or overwrites (`false`) a stack slot.
fn use_of_slot(
    information: &mut InstructionInfoFactory,
    instruction: &Instruction,
    frame: &Frame,
    slot: u64,
) -> Option<bool> {
    let address = frame.address(instruction)?;
    if instruction.mnemonic() == Mnemonic::Lea {
        return (address..address + LARGEST_OBJECT).contains(&slot).then_some(true);
    }
    let size = instruction.memory_size().size().max(1) as u64;
    if !(address..address + size).contains(&slot) {
        return None;
    }
    let memory = *information.info(instruction).used_memory().first()?;
    Some(memory.access() != OpAccess::Write)
}
