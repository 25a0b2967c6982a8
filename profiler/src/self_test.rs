//! Whether the program's own code keeps frame pointers, found out by walking a stack that is known.
//!
//! Who embeds greenprof does not inherit its build settings. The CPU profile gets along without (on x86_64, by tables);
//! the stacks of heap samples and of waiting tasks are walked by frame pointers alone, and would silently be short.

use std::{
    hint::black_box,
    ops::ControlFlow,
    sync::{LazyLock, Once},
};

use greenprof_runtime::world::caller;

/// What to do.
const ADVICE: &str = "this program was built without frame pointers, so stacks are cut short: set \
                      rustflags = [\"-Cforce-frame-pointers=yes\"] under [build] in .cargo/config.toml";

/// What to do if the program's code keeps no frame pointers; nothing if it does. The test runs once.
///
/// ```
/// use greenprof_profiler::self_test;
///
/// if let Some(advice) = self_test::missing_frame_pointers() {
///     assert!(advice.contains("force-frame-pointers=yes"));
/// }
/// ```
pub fn missing_frame_pointers() -> Option<&'static str> {
    static KEPT: LazyLock<bool> = LazyLock::new(keeps_frame_pointers);
    (!*KEPT).then_some(ADVICE)
}

/// Says so on standard error, once.
pub(crate) fn warn() {
    static SAID: Once = Once::new();
    if let Some(advice) = missing_frame_pointers() {
        SAID.call_once(|| eprintln!("greenprof: {advice}"));
    }
}

/// The two innermost return addresses.
type Callers = [usize; 2];

/// Of the function that this is inlined into.
#[inline(always)]
fn callers() -> Callers {
    let mut found = [0; 2];
    let mut slots = found.iter_mut();
    caller::walk(|address| match slots.next() {
        Some(slot) => {
            *slot = address;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    });
    found
}

#[inline(never)]
fn inner() -> Callers {
    black_box(callers())
}

#[inline(never)]
fn outer() -> (Callers, Callers) {
    let own = callers();
    black_box((own, inner()))
}

/// The caller of the caller of `inner` is the caller of `outer`, unless frames are missing.
#[inline(never)]
fn keeps_frame_pointers() -> bool {
    let (of_outer, of_inner) = outer();
    of_inner[1] != 0 && of_inner[1] == of_outer[0] && of_inner[0] != of_outer[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_keeps_them() {
        // Whoever builds the workspace without its settings sees this fail, which is the other half of the test.
        assert_eq!(missing_frame_pointers(), None);
    }
}
