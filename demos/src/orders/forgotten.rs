//! Tasks of the service that nobody can wake: the leak that a leak report should show.
//!
//! A price is asked for at a partner, with a channel for the answer. Who has asked gives up and drops its end; the task that
//! has the answer waits for ever to hand it over. It is the commonest leak of programs with channels: room for one value in
//! the channel would have been enough.

use greenprof_runtime::{SpawnError, sync::Chan, task};

/// The name of these tasks, and of no others.
pub const NAME: &str = "late-answer";

/// How many there are.
pub const COUNT: usize = 6;

/// Leaves them behind. By a task that ends, so that nothing of the askers is left on a stack that lives.
///
/// # Errors
/// If there is no memory for their stacks.
pub fn leave() -> Result<(), SpawnError> {
    let asker = task::Builder::new().name("impatient").spawn(|| (0..COUNT as u64).try_for_each(ask_and_give_up))?;
    asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ask_and_give_up(price: u64) -> Result<(), SpawnError> {
    let answer = Chan::new();
    let answers = answer.clone();
    drop(task::Builder::new().name(NAME).spawn(move || answers.send(price).is_ok())?);
    // Too impatient to wait: `answer` goes.
    Ok(())
}
