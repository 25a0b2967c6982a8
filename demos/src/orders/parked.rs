//! The tasks of the service that wait and do nothing else, each kind for another reason.
//!
//! They are the part of the task profile that is known beforehand: [`PARKED`] says how many tasks of which name wait for
//! what. None of them runs while the service does, so a CPU profile that shows one is wrong. They carry the label
//! [`LABEL`], by which profiles find them.

use std::{sync::Arc, time::Duration};

use greenprof_runtime::{
    JoinHandle, SpawnError, labels, sleep,
    sync::{Chan, Mutex, WaitGroup},
    task,
};

/// Key and value of the label that these tasks carry, and no others.
pub const LABEL: (&str, &str) = ("role", "parked");

/// Tasks of a name, and what all of them wait for.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    /// Their name.
    pub name: &'static str,
    /// How many there are.
    pub count: usize,
    /// What they wait for, in the words of the task profile.
    pub reason: &'static str,
    /// Why they do, in the story of the service.
    pub story: &'static str,
}

/// All of them.
pub const PARKED: [Parked; 6] = [
    Parked { name: "nightly-report", count: 3, reason: "sleep", story: "the night is far" },
    Parked { name: "price-feed", count: 4, reason: "chan receive", story: "prices change rarely" },
    Parked { name: "partner-outbox", count: 2, reason: "chan send", story: "the partner is down" },
    Parked { name: "ledger-export", count: 1, reason: "chan receive", story: "holds the ledger, waits for a go-ahead" },
    Parked { name: "ledger-reader", count: 2, reason: "sync.Mutex.Lock", story: "the ledger is held for an export" },
    Parked { name: "drain", count: 1, reason: "sync.WaitGroup.Wait", story: "waits for all the others to end" },
];

/// How far the night is: beyond any run.
const NIGHT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What keeps the tasks waiting.
#[derive(Clone)]
pub struct Parking {
    prices: Chan<u64>,
    outbox: Chan<u64>,
    go_ahead: Chan<()>,
    /// Protects nothing that matters: that it is held is what matters.
    ledger: Arc<Mutex<u64>>,
    /// Counts the tasks that end when they are told to; sleepers do not.
    running: WaitGroup,
}

impl Parking {
    /// Starts all tasks. Returns when the one that has to be first, the holder of the ledger, is in place.
    ///
    /// # Errors
    /// If there is no memory for their stacks.
    pub fn start() -> Result<(Self, JoinHandle<()>), SpawnError> {
        let parking = Self {
            prices: Chan::new(),
            outbox: Chan::new(),
            go_ahead: Chan::new(),
            ledger: Arc::default(),
            running: WaitGroup::new(),
        };
        let drain = labels::with(&[LABEL], || parking.spawn_all())?;
        Ok((parking, drain))
    }

    fn spawn_all(&self) -> Result<JoinHandle<()>, SpawnError> {
        let held = Chan::new();
        self.spawn("ledger-export", {
            let (parking, held) = (self.clone(), held.clone());
            move || {
                let mut ledger = parking.ledger.lock();
                let _ = held.send(());
                parking.go_ahead.recv();
                *ledger += 1;
            }
        })?;
        held.recv();
        self.spawn("ledger-reader", {
            let parking = self.clone();
            move || *parking.ledger.lock() += 1
        })?;
        self.spawn("price-feed", {
            let prices = self.prices.clone();
            move || prices.iter().for_each(drop)
        })?;
        self.spawn("partner-outbox", {
            let outbox = self.outbox.clone();
            move || {
                let _ = outbox.send(1);
            }
        })?;
        for _ in 0..count("nightly-report") {
            task::Builder::new().name("nightly-report").spawn(|| sleep(NIGHT))?;
        }
        let running = self.running.clone();
        task::Builder::new().name("drain").spawn(move || running.wait())
    }

    /// Starts as many tasks of that name as the table says; their spawn site is the caller's.
    #[track_caller]
    fn spawn(&self, name: &str, body: impl Fn() + Clone + Send + 'static) -> Result<(), SpawnError> {
        for _ in 0..count(name) {
            let (running, body) = (self.running.clone(), body.clone());
            running.add(1);
            task::Builder::new().name(name).spawn(move || {
                body();
                running.done();
            })?;
        }
        Ok(())
    }

    /// Ends them all, except for those that sleep.
    pub fn release(&self) {
        self.prices.close();
        self.outbox.close();
        self.go_ahead.close();
    }
}

/// How many tasks of that name there are.
fn count(name: &str) -> usize {
    PARKED.iter().find(|parked| parked.name == name).map_or(0, |parked| parked.count)
}

/// How many tasks wait for that reason because of this module.
pub fn waiting_for(reason: &str) -> usize {
    PARKED.iter().filter(|parked| parked.reason == reason).map(|parked| parked.count).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use greenprof_runtime::{
        Runtime,
        world::{self, TaskState},
    };

    use super::*;

    fn parked_now(runtime: u32) -> Vec<(String, String)> {
        let tasks = world::tasks(1);
        let mine = tasks
            .iter()
            .filter(|task| task.runtime_id == runtime && task.labels.labels().get(LABEL.0) == Some(LABEL.1));
        let mut found: Vec<_> = mine
            .filter_map(|task| match task.state {
                TaskState::Waiting(reason) => Some((task.name.clone().unwrap_or_default(), reason.to_string())),
                _ => None,
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn tasks_wait_as_the_table_says_and_end_when_released() {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let id = runtime.handle().runtime_id();
        let mut expected: Vec<_> = PARKED
            .iter()
            .flat_map(|parked| vec![(parked.name.to_owned(), parked.reason.to_owned()); parked.count])
            .collect();
        expected.sort();
        runtime.run(|| {
            let (parking, drain) = Parking::start().unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while parked_now(id) != expected && Instant::now() < deadline {
                sleep(Duration::from_millis(1));
            }
            assert_eq!(parked_now(id), expected);
            parking.release();
            drain.join().unwrap();
        });
        assert_eq!(waiting_for("chan receive"), 5);
        assert_eq!(waiting_for("semacquire"), 0);
    }
}
