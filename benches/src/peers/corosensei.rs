//! corosensei: the bare switch. A coroutine that suspends and is resumed: no queue, no thread but one.

use std::{hint::black_box, time::Instant};

use ::corosensei::{Coroutine, CoroutineResult};

use crate::case::{Case, Effort};
use crate::values::{TIME, Values, one};

pub(super) fn measure(case: Case, effort: Effort) -> Option<Values> {
    (case == Case::Switch).then(|| one(TIME, switches(effort)))
}

/// An operation is a resume and the suspend that answers it.
fn switches(effort: Effort) -> f64 {
    // Ends when it is told to, so that nothing has to be unwound.
    let mut coroutine = Coroutine::new(|yielder, mut go_on: bool| {
        while go_on {
            go_on = yielder.suspend(());
        }
    });
    let time = effort.time(|operations| {
        let start = Instant::now();
        for _ in 0..operations {
            black_box(coroutine.resume(black_box(true)));
        }
        start.elapsed()
    });
    assert!(matches!(coroutine.resume(false), CoroutineResult::Return(())), "told to end");
    time
}
