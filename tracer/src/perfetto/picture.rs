//! What the events of a trace look like: tracks, slices on them, arrows between them, and counters.
//!
//! | track | what is on it |
//! |---|---|
//! | of a task | a slice for each state: `running`, `runnable`, a system call, or the reason of a wait with its stack; messages |
//! | below it | the task's regions |
//! | of a processor, of a thread | slices of the tasks that run there |
//! | of a user task | one slice, below that of the user task that it is a part of |
//! | counters | tasks that wait for a processor; bytes of the heap |
//! | of the process | stops of the world, collections |
//!
//! An arrow goes from the moment at which a task is woken or spawned, on the track of who does it, to the beginning of the slice
//! `runnable`, which begins at the same moment: so none begins that does not end. On each track slices are closed in the
//! reverse order of their beginnings, at the trace's end if not before.

use std::{collections::HashSet, sync::Arc};

use super::{
    messages::{Counter, Process, Thread, Track, lines, unit},
    packets::{Details, Packets},
};
use crate::{
    engine::tables::NumberMap,
    go::wire::kind as go,
    reader::{Event, Frame, Kind, TaskState},
};

/// Numbers of tracks: what kind of thing it belongs to, and the thing's number.
mod uuid {
    pub(super) const PROCESS: u64 = 1;
    pub(super) const PROCESSORS: u64 = 2;
    pub(super) const TASKS: u64 = 3;
    pub(super) const USER_TASKS: u64 = 4;
    pub(super) const RUN_QUEUE: u64 = 5;
    pub(super) const HEAP: u64 = 6;
    pub(super) const STOPS: u64 = 7;
    pub(super) const COLLECTIONS: u64 = 8;

    pub(super) const fn processor(id: u64) -> u64 {
        id << 4 | 9
    }
    pub(super) const fn thread(id: u64) -> u64 {
        id << 4 | 10
    }
    pub(super) const fn task(id: u64) -> u64 {
        id << 4 | 11
    }
    pub(super) const fn regions(id: u64) -> u64 {
        id << 4 | 12
    }
    pub(super) const fn user_task(id: u64) -> u64 {
        id << 4 | 13
    }
}

/// Where a trace comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) process: u32,
    pub(super) name: String,
    /// Whether it is this process, whose threads can be asked for their names.
    pub(super) is_own: bool,
}

/// The track of a task.
#[derive(Default)]
struct Lane {
    name: Arc<str>,
    /// The state whose slice is open.
    state: Option<TaskState>,
    regions: u64,
    has_regions: bool,
    /// The processor and the thread with a slice of it.
    processor: Option<u64>,
    thread: Option<u64>,
}

pub(super) struct Picture {
    pub(super) packets: Packets,
    origin: Origin,
    time: u64,
    lanes: NumberMap<Lane>,
    /// The tasks whose slices are open there.
    processors: NumberMap<Option<u64>>,
    threads: NumberMap<Option<u64>>,
    user_tasks: HashSet<u64>,
    runnable: u64,
    arrows: u64,
    /// Whether the slices of what concerns the whole process are open.
    stopped: bool,
    collecting: bool,
    begun: bool,
}

impl Picture {
    pub(super) fn new(origin: Origin, max_bytes: u64) -> Self {
        Self {
            packets: Packets::new(max_bytes),
            origin,
            time: 0,
            lanes: NumberMap::default(),
            processors: NumberMap::default(),
            threads: NumberMap::default(),
            user_tasks: HashSet::new(),
            runnable: 0,
            arrows: 0,
            stopped: false,
            collecting: false,
            begun: false,
        }
    }

    /// The tracks that every trace has.
    fn begin(&mut self) {
        let id = self.origin.process as i32;
        let process = Process { id: Some(id), name: Some(self.origin.name.clone()) };
        self.packets.describe(Track { uuid: Some(uuid::PROCESS), process: Some(process), ..Default::default() });
        let group = |uuid, name: &str, ordering| Track { ordering: Some(ordering), ..child(uuid::PROCESS, uuid, name) };
        let count = |uuid, name: &str, unit| Track {
            counter: Some(Counter { unit: Some(unit) }),
            ..child(uuid::PROCESS, uuid, name)
        };
        for track in [
            count(uuid::RUN_QUEUE, "tasks that wait for a processor", unit::COUNT),
            count(uuid::HEAP, "heap", unit::BYTES),
            group(uuid::PROCESSORS, "processors", lines::BY_RANK),
            group(uuid::TASKS, "tasks", lines::CHRONOLOGICAL),
            group(uuid::USER_TASKS, "user tasks", lines::CHRONOLOGICAL),
            child(uuid::PROCESS, uuid::STOPS, "stops of the world"),
            child(uuid::PROCESS, uuid::COLLECTIONS, "collections"),
        ] {
            self.packets.describe(track);
        }
    }

    pub(super) fn add(&mut self, event: &Event) {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin();
        }
        let time = event.time;
        self.time = time;
        match &event.kind {
            Kind::Task { id, state, status, reason, stack, .. } => {
                self.name(*id, event.kind.task_name());
                let arrow = self.arrow(event, *id, stack);
                self.enter(time, *id, *state, reason, stack, arrow);
                match state {
                    // Of one that was in a system call before, the trace does not say on which thread.
                    TaskState::Syscall if *status => {}
                    TaskState::Running | TaskState::Syscall => self.place(event, *id),
                    TaskState::Runnable | TaskState::Waiting | TaskState::Ended => self.displace(time, *id),
                }
                if *state == TaskState::Ended {
                    self.close_lane(time, *id);
                }
            }
            Kind::Processor { id, running } => {
                self.processor(*id);
                if !running {
                    self.vacate_processor(time, *id);
                }
            }
            Kind::Heap(bytes) => self.packets.count(time, uuid::HEAP, *bytes),
            Kind::Label(text) => {
                let details = Details { text: Some(("labels", text)), ..Default::default() };
                self.remark(event, "labels", "labels", details);
            }
            Kind::UserTaskBegin { id, parent, name } => {
                if self.user_tasks.insert(*id) {
                    let above =
                        if self.user_tasks.contains(parent) { uuid::user_task(*parent) } else { uuid::USER_TASKS };
                    let track = child(above, uuid::user_task(*id), name);
                    self.packets.describe(Track { merging: Some(lines::NOT_MERGED), ..track });
                    let details = Details { number: Some(("user task", *id)), ..Default::default() };
                    self.packets.begin(time, uuid::user_task(*id), "user task", name, details);
                }
            }
            Kind::UserTaskEnd { id } => {
                if self.user_tasks.remove(id) {
                    self.packets.end(time, uuid::user_task(*id));
                }
            }
            Kind::Region { task, name, begins } => {
                if let Some(id) = event.task {
                    self.region(time, id, *task, name, *begins);
                }
            }
            Kind::Log { task, category, message } => {
                let number = (*task != 0).then_some(("user task", *task));
                let details = Details { number, text: Some(("message", message)), ..Default::default() };
                self.remark(event, "log", category, details);
            }
            Kind::CpuSample(stack) => {
                if let Some(thread) = event.thread {
                    self.thread(thread);
                    let number = event.task.map(|task| ("task", task));
                    let details = Details { stack: Some(stack), number, ..Default::default() };
                    self.packets.instant(time, uuid::thread(thread), "cpu", "CPU sample", details);
                }
            }
            Kind::StopWorld { reason, begins } => {
                if std::mem::replace(&mut self.stopped, *begins) != *begins {
                    self.span(time, uuid::STOPS, reason, *begins);
                }
            }
            Kind::Collection { begins } => {
                if std::mem::replace(&mut self.collecting, *begins) != *begins {
                    self.span(time, uuid::COLLECTIONS, "collection", *begins);
                }
            }
            Kind::Other => {}
        }
    }

    /// Ends whatever has not ended.
    pub(super) fn finish(&mut self) {
        let time = self.time;
        let lanes: Vec<_> = self.lanes.keys().copied().collect();
        for id in lanes {
            self.displace(time, id);
            if self.lanes.get(&id).is_some_and(|lane| lane.state.is_some()) {
                self.packets.end(time, uuid::task(id));
            }
            self.close_lane(time, id);
        }
        for id in std::mem::take(&mut self.user_tasks) {
            self.packets.end(time, uuid::user_task(id));
        }
        for (is_open, track) in [(self.stopped, uuid::STOPS), (self.collecting, uuid::COLLECTIONS)] {
            if is_open {
                self.packets.end(time, track);
            }
        }
        (self.stopped, self.collecting) = (false, false);
    }

    fn span(&mut self, time: u64, track: u64, name: &str, begins: bool) {
        if begins {
            self.packets.begin(time, track, "runtime", name, Details::default());
        } else {
            self.packets.end(time, track);
        }
    }

    /// A task is called so; its track is described, if that has not been done under this name.
    fn name(&mut self, id: u64, name: Option<Arc<str>>) {
        let is_new = !self.lanes.contains_key(&id);
        let lane = self.lanes.entry(id).or_default();
        let is_better = name.is_some() && lane.name.is_empty();
        if let Some(name) = name.filter(|_| is_better) {
            lane.name = name;
        }
        if is_new || is_better {
            let called = if lane.name.is_empty() { "task" } else { &lane.name };
            let track = child(uuid::TASKS, uuid::task(id), &format!("{called} {id}"));
            self.packets.describe(Track { merging: Some(lines::NOT_MERGED), ..track });
        }
    }

    /// The arrow of an event that makes another task runnable, with its beginning.
    fn arrow(&mut self, event: &Event, id: u64, stack: &Arc<[Frame]>) -> Option<u64> {
        let name = match event.code {
            go::GO_CREATE | go::GO_CREATE_BLOCKED => "spawn",
            go::GO_UNBLOCK => "wake",
            _ => return None,
        };
        let track = self.track_of(event)?;
        self.arrows += 1;
        let details =
            Details { stack: Some(stack), number: Some(("task", id)), flow: Some(self.arrows), ..Default::default() };
        self.packets.instant(event.time, track, "wake", name, details);
        Some(self.arrows)
    }

    /// Where an event happens: in a task, or else on a thread.
    fn track_of(&mut self, event: &Event) -> Option<u64> {
        if let Some(task) = event.task {
            self.name(task, None);
            return Some(uuid::task(task));
        }
        event.thread.map(|thread| {
            self.thread(thread);
            uuid::thread(thread)
        })
    }

    fn remark(&mut self, event: &Event, category: &str, name: &str, details: Details<'_>) {
        if let Some(track) = self.track_of(event) {
            self.packets.instant(event.time, track, category, name, details);
        }
    }

    /// The task is in another state.
    fn enter(
        &mut self,
        time: u64,
        id: u64,
        state: TaskState,
        reason: &Arc<str>,
        stack: &Arc<[Frame]>,
        arrow: Option<u64>,
    ) {
        let track = uuid::task(id);
        let lane = self.lanes.entry(id).or_default();
        let before = lane.state.take();
        lane.state = (state != TaskState::Ended).then_some(state);
        if before.is_some() {
            self.packets.end(time, track);
        }
        let text = Some(("reason", &**reason)).filter(|(_, reason)| !reason.is_empty());
        // Of one that was woken or spawned it is the stack of who did it, and is shown there.
        let stack = Some(stack).filter(|_| arrow.is_none());
        let details = Details { stack, text, ended_flow: arrow, ..Default::default() };
        let name = match state {
            TaskState::Runnable => "runnable",
            TaskState::Running => "running",
            TaskState::Syscall => "system call",
            TaskState::Waiting if reason.is_empty() => "waiting",
            TaskState::Waiting => reason,
            TaskState::Ended => "",
        };
        if state != TaskState::Ended {
            self.packets.begin(time, track, "state", name, details);
        }
        let was = before == Some(TaskState::Runnable);
        let is = state == TaskState::Runnable;
        if was != is {
            self.runnable = if is { self.runnable + 1 } else { self.runnable - 1 };
            self.packets.count(time, uuid::RUN_QUEUE, self.runnable);
        }
    }

    /// The task runs where the event happens.
    fn place(&mut self, event: &Event, id: u64) {
        let time = event.time;
        let lane = self.lanes.entry(id).or_default();
        let name = if lane.name.is_empty() { "task".into() } else { lane.name.clone() };
        let details = Details { number: Some(("task", id)), ..Default::default() };
        if let Some(processor) = event.processor
            && self.processors.get(&processor).copied().flatten() != Some(id)
        {
            self.processor(processor);
            self.vacate_processor(time, processor);
            self.processors.insert(processor, Some(id));
            self.lanes.entry(id).or_default().processor = Some(processor);
            self.packets.begin(time, uuid::processor(processor), "task", &name, details);
        }
        if let Some(thread) = event.thread
            && self.threads.get(&thread).copied().flatten() != Some(id)
        {
            self.thread(thread);
            self.vacate_thread(time, thread);
            self.threads.insert(thread, Some(id));
            self.lanes.entry(id).or_default().thread = Some(thread);
            self.packets.begin(time, uuid::thread(thread), "task", &name, details);
        }
    }

    /// The task runs nowhere any more.
    fn displace(&mut self, time: u64, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (processor, thread) = (lane.processor.take(), lane.thread.take());
        if let Some(processor) = processor {
            self.vacate_processor(time, processor);
        }
        if let Some(thread) = thread {
            self.vacate_thread(time, thread);
        }
    }

    fn vacate_processor(&mut self, time: u64, id: u64) {
        if let Some(task) = self.processors.insert(id, None).flatten() {
            self.packets.end(time, uuid::processor(id));
            if let Some(lane) = self.lanes.get_mut(&task) {
                lane.processor = None;
            }
        }
    }

    fn vacate_thread(&mut self, time: u64, id: u64) {
        if let Some(task) = self.threads.insert(id, None).flatten() {
            self.packets.end(time, uuid::thread(id));
            if let Some(lane) = self.lanes.get_mut(&task) {
                lane.thread = None;
            }
        }
    }

    fn region(&mut self, time: u64, id: u64, user: u64, name: &str, begins: bool) {
        self.name(id, None);
        let track = uuid::regions(id);
        let lane = self.lanes.entry(id).or_default();
        if begins {
            lane.regions += 1;
            if !std::mem::replace(&mut lane.has_regions, true) {
                self.packets.describe(child(uuid::task(id), track, "regions"));
            }
            let number = (user != 0).then_some(("user task", user));
            self.packets.begin(time, track, "region", name, Details { number, ..Default::default() });
        } else if lane.regions > 0 {
            lane.regions -= 1;
            self.packets.end(time, track);
        }
    }

    /// The task has ended: so have its regions.
    fn close_lane(&mut self, time: u64, id: u64) {
        let regions = self.lanes.remove(&id).map_or(0, |lane| lane.regions);
        for _ in 0..regions {
            self.packets.end(time, uuid::regions(id));
        }
    }

    fn processor(&mut self, id: u64) {
        if self.processors.contains_key(&id) {
            return;
        }
        self.processors.insert(id, None);
        let track = child(uuid::PROCESSORS, uuid::processor(id), &format!("processor {id}"));
        self.packets.describe(Track { rank: i32::try_from(id).ok(), ..track });
    }

    fn thread(&mut self, id: u64) {
        if self.threads.contains_key(&id) {
            return;
        }
        self.threads.insert(id, None);
        let path = format!("/proc/self/task/{id}/comm");
        let known = self.origin.is_own.then(|| std::fs::read_to_string(path).ok()).flatten();
        let name = known.map_or_else(|| format!("thread {id}"), |name| name.trim_end().to_owned());
        let thread = Thread { process: Some(self.origin.process as i32), id: i64::try_from(id).ok(), name: Some(name) };
        let parent = Some(uuid::PROCESS);
        self.packets.describe(Track {
            uuid: Some(uuid::thread(id)),
            parent,
            thread: Some(thread),
            ..Default::default()
        });
    }
}

fn child(parent: u64, uuid: u64, name: &str) -> Track {
    Track { uuid: Some(uuid), name: Some(name.to_owned()), parent: Some(parent), ..Default::default() }
}
