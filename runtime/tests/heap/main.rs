//! The span heap, called directly: this program's own allocator is another one, so that nothing else happens in the heap
//! while a test looks at it. `heap_global.rs` is the opposite.

mod model;
mod resolve;
mod stopped;

use std::{
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use greenprof_runtime::heap::Heap;

static HEAP: Heap = Heap::new();

/// Runs a test. There is one heap, and a view of it wants nobody to change it: tests take turns, each on a thread that
/// has ended, and has given its cache back, before the next begins.
fn alone(test: impl FnOnce() + Send) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(test).join() {
            resume_unwind(panic);
        }
    });
}

/// Numbers that look random: a linear congruential generator's upper half (Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as usize % limit
    }

    /// Sizes as programs have them: mostly small, some large, a few very large.
    fn size(&mut self) -> usize {
        match self.below(100) {
            0..70 => 1 + self.below(1024),
            70..95 => 1 + self.below(40_000),
            95..99 => 1 + self.below(300_000),
            _ => 1 + self.below(3_000_000),
        }
    }

    fn align(&mut self) -> usize {
        if self.below(4) > 0 { 8 } else { 1 << self.below(21) }
    }
}
