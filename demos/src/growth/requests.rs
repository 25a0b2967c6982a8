//! Requests that ask several suppliers and take the first answer. Each supplier is asked by a task of its own.

use greenprof_runtime::{SpawnError, sync::Chan, task};

/// The function in which what grows waits.
pub(super) const HOT: &str = "greenprof_demos::growth::requests::answer";

/// The name of the tasks that ask.
const TASK: &str = "asks a supplier";

/// Suppliers of a request.
const SUPPLIERS: u64 = 4;

/// Tasks of a request that are not needed once there is an answer.
pub(super) const LATE: u64 = SUPPLIERS - 1;

/// Hands a supplier's answer to whoever takes it.
#[inline(never)]
fn answer(answers: &Chan<u64>, price: u64) {
    answers.send(price).expect("nobody closes it");
}

/// A request: whether its answer belongs to it, and the channel of all its answers. As it is, the answers that come second wait for somebody to take them, for
/// ever. Repaired, there is room for them: their tasks end, and the answers go with the channel.
pub(super) fn request(number: u64, is_repaired: bool) -> Result<(bool, Chan<u64>), SpawnError> {
    let answers = Chan::with_capacity(if is_repaired { LATE as usize } else { 0 });
    for supplier in 0..SUPPLIERS {
        let answers = answers.clone();
        let ask = move || answer(&answers, number * SUPPLIERS + supplier);
        drop(task::Builder::new().name(TASK).spawn(ask)?);
    }
    let first = answers.recv().expect("nobody closes it");
    Ok((first / SUPPLIERS == number, answers))
}
