//! The instrument: each hook of the runtime as a record of the thread on which it happens.

use greenprof_runtime::{
    hooks::{self, InstallError, Installed, Instrument, Interest, Left, TaskView},
    task,
    world::WorkerThread,
};

use super::{
    clock,
    kind::{self, head, subject, subject_in},
    threads::writer,
};

struct Recorder;

static RECORDER: Recorder = Recorder;

/// From now on all events are recorded.
pub(crate) fn install() -> Result<Installed, InstallError> {
    let interest = [Interest::WORKER, Interest::IDLE, Interest::BLOCKING, Interest::LABELS, Interest::WORLD];
    hooks::install(&RECORDER, interest.into_iter().fold(Interest::SPAWN.and(Interest::SCHEDULE), Interest::and))
}

fn on_worker(kind: u8) {
    if let Some(writer) = writer() {
        writer.detour();
        writer.record([head(kind, clock::ticks()), 0]);
    }
}

fn in_task(kind: u8) {
    if let Some(writer) = writer() {
        let stack = writer.own_stack();
        writer.record([head(kind, clock::ticks()), subject(task::current_id().map_or(0, |id| id.get()), stack)]);
    }
}

impl Instrument for Recorder {
    fn task_spawned(&self, task: TaskView) {
        let Some(writer) = writer() else { return };
        let stack = writer.own_stack();
        let origin = writer.origin(&task);
        let third = u64::from(task.labels().index()) << 32 | origin;
        writer.record([head(kind::CREATE, clock::ticks()), subject_in(task.id().get(), stack, task.runs()), third]);
    }

    fn task_resumed(&self, task: TaskView) {
        let Some(writer) = writer() else { return };
        writer.resumed(task.stack());
        writer.event(kind::START, writer.start(), &task, 0);
    }

    fn task_left(&self, task: TaskView, left: Left) {
        let Some(writer) = writer() else { return };
        let now = writer.leave();
        match left {
            Left::Ended => writer.event(kind::END, now, &task, 0),
            Left::Yields => writer.event(kind::YIELD, now, &task, writer.left_stack(&task)),
            Left::Waits => {
                writer.event(kind::WAIT + task.wait_reason() as u8, now, &task, writer.left_stack(&task));
            }
        }
    }

    fn task_woken(&self, task: TaskView) {
        let Some(writer) = writer() else { return };
        let stack = writer.own_stack();
        writer.detour();
        writer.event(kind::WOKEN, clock::ticks(), &task, stack);
    }

    fn worker_started(&self, _: &'static WorkerThread) {
        on_worker(kind::WORKER_START);
    }

    fn worker_stopping(&self, _: &'static WorkerThread) {
        on_worker(kind::WORKER_END);
    }

    fn worker_searching(&self, _: &'static WorkerThread) {
        if let Some(writer) = writer() {
            writer.detour();
        }
    }

    fn worker_sleeping(&self, _: &'static WorkerThread) {
        on_worker(kind::SLEEP);
    }

    fn worker_woke(&self, _: &'static WorkerThread) {
        on_worker(kind::WOKE);
    }

    fn blocking_began(&self, _: TaskView) {
        in_task(kind::BLOCKING);
    }

    fn blocking_ended(&self, _: TaskView) {
        in_task(kind::UNBLOCKING);
    }

    fn labels_changed(&self, task: TaskView) {
        if let Some(writer) = writer() {
            let labels = u64::from(task.labels().index());
            writer.record([head(kind::LABELS, clock::ticks()), subject(task.id().get(), 0), labels]);
        }
    }

    fn world_stopping(&self) {
        in_task(kind::STOP_WORLD);
    }

    fn world_released(&self) {
        in_task(kind::RELEASE_WORLD);
    }
}
