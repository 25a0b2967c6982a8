//! From linker symbols to names that a person can read in a table.
//!
//! Both of rustc's manglings are undone (`_R..` and `_ZN..`, without the latter's hash), and then generic arguments are
//! taken out: `core::iter::Iterator::fold::<u64, ..forty more types..>` reads `core::iter::Iterator::fold`, and
//! `<app::Queue<Job>>::pop` reads `app::Queue::pop`. That is what pprof itself does to C++ names, it makes all
//! instances of one function one row of `-top`, and a graph can shorten the result further (`Queue::pop`). Nothing is
//! lost: the mangled name travels beside the readable one.
//!
//! Kept on purpose: `<T as Trait>::method`, since the method alone would not say whose it is, and the type that
//! `drop_in_place` drops.

use std::ops::Range;

/// The crate whose frames at the ends of a stack a text form hides, as Go hides `runtime.`.
const PLUMBING: &str = "greenprof_runtime::";

/// Crates whose functions end up inlined into the plumbing and are hidden with it.
const SUPPORT: [&str; 6] = ["core::", "std::", "alloc::", "crossbeam_utils::", "parking_lot::", "parking_lot_core::"];

/// What the compiler makes of a call that catches panics, in whatever crate. Optimized builds have no function of it.
const CATCHES: &str = "__rust_try";

/// Functions whose generic argument is the only thing that tells one from another.
const NAMED_BY_ARGUMENT: [&str; 2] = ["drop_in_place", "drop_glue"];

/// Whether rustc's mangling was recognised.
pub fn is_mangled(raw: &str) -> bool {
    rustc_demangle::try_demangle(raw).is_ok()
}

/// The readable form of a linker symbol; a symbol that is not Rust's is returned as it is.
pub fn readable(raw: &str) -> String {
    match rustc_demangle::try_demangle(raw) {
        Ok(name) => simplify(&format!("{name:#}")),
        Err(_) => raw.to_owned(),
    }
}

/// Takes generic arguments and the auto traits of trait objects out of a demangled Rust name.
pub fn simplify(name: &str) -> String {
    drop_bounds(drop_arguments(name))
}

/// `dyn Fn + Send + Sync` reads `dyn Fn`: only auto traits can follow the first.
fn drop_bounds(mut name: String) -> String {
    while let Some(start) = name.find(" + ") {
        let after = start + " + ".len();
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '\'');
        let end = name[after..].find(|c: char| !is_path(c)).map_or(name.len(), |length| after + length);
        name.replace_range(start..end, "");
    }
    name
}

fn drop_arguments(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(open) = rest.find('<') {
        let (before, from_open) = rest.split_at(open);
        let Some(close) = matching_bracket(from_open) else { break };
        let inside = &from_open[1..close];
        out.push_str(before);
        rest = &from_open[close + 1..];

        let turbofish = out.ends_with("::");
        let after_name = out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '}' | ']' | ')'));
        if inside.starts_with("impl ") {
            // `<impl Trait for Type>`: the name of the block, not an argument.
            push_bracketed(&mut out, &drop_arguments(inside));
        } else if turbofish || after_name {
            let path = out.strip_suffix("::").unwrap_or(&out);
            let named_by_argument = NAMED_BY_ARGUMENT.iter().any(|function| path.ends_with(function));
            let path_len = path.len();
            out.truncate(path_len);
            if named_by_argument {
                push_bracketed(&mut out, &drop_arguments(inside));
            }
        } else {
            let inner = drop_arguments(inside);
            if is_plain_path(&inner) {
                out.push_str(&inner);
            } else {
                push_bracketed(&mut out, &inner);
            }
        }
    }
    out.push_str(rest);
    out
}

fn push_bracketed(out: &mut String, inside: &str) {
    out.push('<');
    out.push_str(inside);
    out.push('>');
}

fn is_plain_path(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '{' | '}' | '#'))
}

/// Index of the `>` that closes the `<` with which `text` starts. The arrow of `fn(A) -> B` closes nothing.
fn matching_bracket(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if index > 0 && matches!(bytes[index - 1], b'-' | b'=') => {}
            b'>' => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether a readable name belongs to the runtime itself: its functions, and trait methods of its types.
pub fn is_plumbing(function: &str) -> bool {
    own_path(function).starts_with(PLUMBING)
}

fn is_support(function: &str) -> bool {
    let path = own_path(function);
    SUPPORT.iter().any(|prefix| path.starts_with(prefix)) || path.rsplit("::").next() == Some(CATCHES)
}

/// The path by which the owner of a method is judged: `<&mut a::B as c::D>::e` belongs to `a`.
fn own_path(function: &str) -> &str {
    let Some(inner) = function.strip_prefix('<') else { return function };
    let mut inner = inner;
    loop {
        let shorter = inner.trim_start_matches(['&', '*', ' ', '[', '(']);
        let shorter = ["mut ", "const ", "dyn "].iter().find_map(|word| shorter.strip_prefix(word)).unwrap_or(shorter);
        if shorter.len() == inner.len() {
            return inner;
        }
        inner = shorter;
    }
}

/// Which frames of a stack, innermost first, a text form shows: not the runtime's own at either end.
///
/// At the inner end those are the functions by which the task waits, with what was inlined into them; at the outer end
/// the ones that start a task, down to where the runtime calls the user's closure. Library frames are hidden only when
/// the runtime called them; `core::` code that a user's function called is that user's business. When nothing would be
/// left, nothing is hidden, so that no record is ever empty.
pub fn shown_frames(functions: &[&str]) -> Range<usize> {
    let mut start = 0;
    for (index, function) in functions.iter().enumerate() {
        if is_plumbing(function) {
            start = index + 1;
        } else if !is_support(function) {
            break;
        }
    }
    let mut end = functions.len();
    if functions.last().is_some_and(|outermost| is_plumbing(outermost)) {
        end = functions.iter().rposition(|f| !is_plumbing(f) && !is_support(f)).map_or(0, |last| last + 1);
    }
    if start < end { start..end } else { 0..functions.len() }
}

/// Crates and modules whose frames stand between an allocation and whoever wanted the memory.
const ALLOCATOR: [&str; 5] = [
    "alloc::",
    "core::",
    "greenprof_runtime::heap::",
    "greenprof_runtime::world::caller::",
    "greenprof_profiler::heap::",
];

/// The functions that the compiler makes for a global allocator, in whatever module.
const SHIMS: [&str; 3] = ["__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc"];

/// Whether a readable name belongs to the allocation itself, rather than to the code that allocates.
pub fn is_allocator(function: &str) -> bool {
    let path = own_path(function);
    ALLOCATOR.iter().any(|prefix| path.starts_with(prefix))
        || SHIMS.contains(&path.rsplit("::").next().unwrap_or_default())
}

/// Which frames of an allocation's stack, innermost first, a profile shows: all from the first that is not the allocator's, as
/// Go leaves out the leading frames of its runtime. When nothing would be left, nothing is hidden.
pub fn shown_allocation(functions: &[&str]) -> Range<usize> {
    let first = functions.iter().position(|function| !is_allocator(function)).unwrap_or(0);
    first..functions.len()
}

/// Where what is recorded of a wait stands.
const RECORDER: &str = "greenprof_profiler::contention::";

/// Which frames of a stack that waits or unlocks, innermost first, a profile shows: all from the function of the runtime
/// that the program has called, as in Go's profiles. Library frames between the runtime's own are hidden with them. When
/// there is no frame of the program, nothing is hidden.
pub fn shown_contention(functions: &[&str]) -> Range<usize> {
    let is_hook = |function: &str| is_plumbing(function) || own_path(function).starts_with(RECORDER);
    let program = functions.iter().position(|function| !is_hook(function) && !is_support(function)).unwrap_or(0);
    let first = functions[..program].iter().rposition(|function| is_hook(function)).unwrap_or(0);
    first..functions.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manglings_come_out_readable() {
        for (raw, expected) in [
            ("_ZN4demo5queue3pop17h0123456789abcdefE", "demo::queue::pop"),
            ("_ZN4demo14Queue$LT$T$GT$3pop17h0123456789abcdefE", "demo::Queue::pop"),
            ("_ZN4demo4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE", "demo::main::{{closure}}"),
            ("_RNvNtCs1234_4demo5queue3pop", "demo::queue::pop"),
            ("_RNCNvCs1234_4demo4main0B3_", "demo::main::{closure#0}"),
            ("_RINvNtCs1234_4demo5queue3popmE", "demo::queue::pop"),
            ("_RNvMNtCs1234_4demo5queueINtB2_5QueuemE3pop", "demo::queue::Queue::pop"),
            ("_RNvXNtCs1234_4demo5queueINtB2_5QueuemENtB2_4Sink3put", "<demo::queue::Queue as demo::queue::Sink>::put"),
            ("memcpy", "memcpy"),
            ("__GI___clock_nanosleep", "__GI___clock_nanosleep"),
        ] {
            assert_eq!(readable(raw), expected, "{raw}");
        }
    }

    #[test]
    fn generic_arguments_go_and_meaning_stays() {
        for (name, expected) in [
            ("fold<a::B<c::D>, u64>", "fold"),
            ("{closure#0}<u32>", "{closure#0}"),
            ("core::iter::Iterator::fold::<u64, <a::B as c::D>::E>", "core::iter::Iterator::fold"),
            ("a::call::<fn(u32) -> b::C<u8>, ()>::{closure#1}", "a::call::{closure#1}"),
            ("<a::B<u32>>::c::<d::E>", "a::B::c"),
            ("<[u64]>::sort_by::<x>", "<[u64]>::sort_by"),
            ("<&mut a::B<u8> as core::fmt::Write>::write_str", "<&mut a::B as core::fmt::Write>::write_str"),
            (
                "<fn(a::B) -> c::D<e> as core::ops::FnOnce<(f,)>>::call_once",
                "<fn(a::B) -> c::D as core::ops::FnOnce>::call_once",
            ),
            (
                "core::ops::impls::<impl core::ops::FnOnce<A> for &mut F>::call_once",
                "core::ops::impls::<impl core::ops::FnOnce for &mut F>::call_once",
            ),
            ("core::ptr::drop_in_place::<alloc::vec::Vec<u8>>", "core::ptr::drop_in_place<alloc::vec::Vec>"),
            ("core::ptr::drop_in_place<[a::B<u8>; 3]>", "core::ptr::drop_in_place<[a::B; 3]>"),
            (
                "<&dyn a::Fn<(), Output = i32> + a::Sync + b::Safe as c::FnOnce<()>>::call",
                "<&dyn a::Fn as c::FnOnce>::call",
            ),
            ("core::num::<impl u64>::pow", "core::num::<impl u64>::pow"),
            ("unbalanced<a", "unbalanced<a"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(simplify(name), expected, "{name}");
        }
    }

    #[test]
    fn leading_runtime_frames_are_hidden_with_what_they_called() {
        let hidden = |names: &[&str]| shown_frames(names).start;
        assert_eq!(
            hidden(&[
                "greenprof_runtime::park",
                "greenprof_runtime::sync::Chan::recv",
                "app::work",
                "greenprof_runtime::task::entry"
            ]),
            2
        );
        assert_eq!(hidden(&["core::sync::atomic::swap", "greenprof_runtime::park", "app::work"]), 2);
        assert_eq!(hidden(&["core::sync::atomic::swap", "app::work", "greenprof_runtime::task::entry"]), 0);
        assert_eq!(hidden(&["<greenprof_runtime::sync::Guard as core::ops::Drop>::drop", "app::work"]), 1);
        assert_eq!(hidden(&["<app::Type as greenprof_runtime::Instrument>::begin", "greenprof_runtime::run"]), 0);
        assert_eq!(hidden(&["greenprof_runtime::park", "greenprof_runtime::task::entry"]), 0);
        assert_eq!(hidden(&["greenprof_runtime::park", "core::ops::call_once", "app::work"]), 1);
        assert_eq!(hidden(&["", "greenprof_runtime::park"]), 0);
        assert_eq!(hidden(&[]), 0);
    }

    #[test]
    fn the_start_of_a_task_is_hidden_at_the_outer_end() {
        let stack = [
            "greenprof_runtime::sync::chan::Chan::recv",
            "app::wait",
            "core::iter::Iterator::fold",
            "app::main::{{closure}}",
            "<core::panic::unwind_safe::AssertUnwindSafe as core::ops::function::FnOnce>::call_once",
            "std::panicking::catch_unwind::do_call",
            "__rust_try",
            "std::panic::catch_unwind",
            "greenprof_runtime::task::spawn::run",
            "greenprof_runtime::task::switch::x86_64::trampoline",
        ];
        assert_eq!(shown_frames(&stack), 1..4);
        assert_eq!(shown_frames(&stack[..4]), 1..4, "a stack that is no task's is left as it is");
        assert_eq!(shown_frames(&stack[8..]), 0..2);
    }

    #[test]
    fn the_allocator_is_hidden_where_it_leads() {
        let stack = [
            "greenprof_profiler::heap::hook::allocated",
            "greenprof_runtime::heap::blocks::allocate",
            "<greenprof_runtime::heap::Heap as core::alloc::global::GlobalAlloc>::alloc",
            "app::_::__rust_alloc",
            "__rustc::__rust_alloc",
            "alloc::alloc::alloc",
            "<alloc::vec::Vec as core::iter::FromIterator>::from_iter",
            "app::load",
            "alloc::boxed::call",
            "greenprof_runtime::task::spawn::run",
        ];
        assert_eq!(shown_allocation(&stack), 7..10);
        assert_eq!(shown_allocation(&stack[..5]), 0..5);
        assert_eq!(shown_allocation(&[]), 0..0);
        assert!(!is_allocator("app::__rust_allocate") && !is_allocator("hashbrown::raw::new"));
    }

    #[test]
    fn a_wait_begins_with_what_the_program_called() {
        let stack = [
            "<greenprof_profiler::contention::instruments::Block as greenprof_runtime::hooks::Instrument>::waited",
            "greenprof_runtime::sync::waiter::Waiter::wait",
            "core::bool::<impl bool>::then",
            "<greenprof_runtime::sync::mutex::MutexGuard as core::ops::drop::Drop>::drop",
            "core::ptr::drop_in_place<greenprof_runtime::sync::mutex::MutexGuard>",
            "app::work",
            "greenprof_runtime::task::spawn::run",
        ];
        assert_eq!(shown_contention(&stack), 3..7);
        assert_eq!(shown_contention(&stack[5..]), 0..2);
        assert_eq!(shown_contention(&stack[..4]), 0..4, "nothing of it is the program's");
        assert_eq!(shown_contention(&["app::work", "greenprof_runtime::task::spawn::run"]), 0..2);
        assert_eq!(shown_contention(&[]), 0..0);
    }

    #[test]
    fn a_method_belongs_to_its_type() {
        assert!(is_plumbing("<&mut greenprof_runtime::Task as core::fmt::Debug>::fmt"));
        assert!(is_plumbing("<*const dyn greenprof_runtime::Task as core::fmt::Debug>::fmt"));
        assert!(!is_plumbing("<T as greenprof_runtime::Task>::run"));
        assert!(!is_plumbing("greenprof_runtime_extras::run"));
    }
}
