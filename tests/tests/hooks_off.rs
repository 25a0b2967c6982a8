//! An instrumentation point that nobody listens to is one load and one branch: seen in the machine code of a release
//! build.
//!
//! All points look at the same word. So every instruction of the program that refers to it is found; each must load or test
//! it, and the branch on it must follow, with nothing between but a little that the compiler has put there. The word's
//! address must not be in the global offset table either, from which each point would load it first: it gets there when
//! a generic or inlined function has a point in it. What installs instruments changes the word, and is left out.
#![cfg(target_arch = "x86_64")]

use std::fs;

use greenprof_tests::build;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// Instructions between the load and its branch, at most.
const BETWEEN: usize = 8;

/// What a linker's name of the word that all points look at contains.
const WORD: [&str; 3] = ["hooks", "real", "WANTED"];

/// What changes the word: functions of the module that delivers events.
const CHANGERS: [[&str; 3]; 3] =
    [["hooks", "real", "recompute"], ["hooks", "real", "install"], ["hooks", "real", "Installed"]];

fn has_all(name: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| name.contains(part))
}

/// Whether a load of the word, the first of `code`, is followed by a test of what was loaded and by a branch.
fn is_one_branch(code: &[Instruction]) -> bool {
    let load = &code[0];
    let mut tested = match load.mnemonic() {
        Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Bt => true,
        Mnemonic::Mov | Mnemonic::Movzx => false,
        _ => return false,
    };
    for instruction in code[1..].iter().take(BETWEEN) {
        match instruction.flow_control() {
            FlowControl::ConditionalBranch if tested => return true,
            // Another one may lie between if the load was moved up.
            FlowControl::ConditionalBranch | FlowControl::Next => {}
            _ => return false,
        }
        let register = load.op0_register().full_register();
        let uses =
            |at| instruction.op_kind(at) == OpKind::Register && instruction.op_register(at).full_register() == register;
        if matches!(instruction.mnemonic(), Mnemonic::Test | Mnemonic::Bt | Mnemonic::And | Mnemonic::Cmp) && uses(0) {
            tested = true;
        }
    }
    false
}

#[test]
fn a_point_is_one_load_and_one_branch() {
    // It uses all of the runtime, from crates that it is inlined into.
    let program = build::release_binary("greenprof-demos", "greenprof-demos");
    let file = fs::read(&program).expect("the program");
    let file = object::File::parse(&*file).expect("an ELF file");
    let word = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| has_all(name, &WORD)));
    let word = word.expect("the word's symbol: is the program stripped?").address();
    let relocations = file.dynamic_relocations().expect("a program that can be anywhere in memory");
    let tables = relocations.filter(|(_, relocation)| relocation.addend() as u64 == word).count();
    assert_eq!(tables, 0, "the word's address is loaded from memory: which generic or inlined function has a point?");

    let (mut points, mut wrong) = (0, Vec::new());
    for function in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let name = function.name().unwrap_or_default();
        if CHANGERS.iter().any(|parts| has_all(name, parts)) {
            continue;
        }
        let section = function.section_index().and_then(|index| file.section_by_index(index).ok());
        let code = section.and_then(|section| section.data_range(function.address(), function.size()).ok().flatten());
        let Some(code) = code else { continue };
        let instructions: Vec<Instruction> =
            Decoder::with_ip(64, code, function.address(), DecoderOptions::NONE).into_iter().collect();
        for (at, instruction) in instructions.iter().enumerate() {
            if instruction.is_ip_rel_memory_operand() && instruction.ip_rel_memory_address() == word {
                points += 1;
                if !is_one_branch(&instructions[at..]) {
                    wrong.push(format!("{name}: {instruction} at {:#x}", instruction.ip()));
                }
            }
        }
    }
    assert!(points >= 20, "{points} points: spawning, resuming, leaving, waking, waiting, unlocking, workers, labels");
    assert!(wrong.is_empty(), "of {points} points: {wrong:#?}");
    println!("{points} points");
}
