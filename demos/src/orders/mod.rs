//! `orders`: a service under load, the program that the tour looks into.
//!
//! ```text
//!   generator ──▶ task per order, labelled tenant and route ──▶ channel ──▶ writer ──▶ maps behind locks
//!   (a channel bounds      decode, price                   └──▶ channel ──▶ audit, slow: takes what it can
//!    how many at a time)
//!   parked tasks: sleepers, idle consumers, a stuck outbox, readers of a held lock, a wait group
//! ```
//!
//! The service knows what it does: [`tally`] counts every order, every price is compared with the one computed before the
//! start, and [`parked`] lists who waits for what.

pub mod document;
pub mod forgotten;
mod handle;
pub mod latency;
pub mod load;
pub mod parked;
pub mod price;
pub mod store;
pub mod tally;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use greenprof_runtime::{BuildError, JoinHandle, Runtime, SpawnError, sync::Chan, task};
use thiserror::Error;

use latency::{Latencies, Times};
use load::Schedule;
use store::{Handled, Mismatch, Store};
use tally::{Counts, Tally};

/// Orders that wait for the audit.
const AUDIT_QUEUE: usize = 8;

/// The name of the service's first task, which joins the generator.
pub const MAIN_TASK: &str = "orders";

/// Why the service could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no runtime.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no first task.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// What the tasks of the service share.
pub struct Shared {
    stop: AtomicBool,
    store: Store,
    audit: Chan<Handled>,
    tally: Tally,
    latencies: Latencies,
    /// What each order of the file costs.
    prices: BTreeMap<u64, u64>,
}

/// The running service.
pub struct Service {
    shared: Arc<Shared>,
    main: JoinHandle<Result<u64, SpawnError>>,
    runtime: Runtime,
}

/// What the service did, from its start to its stop.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The orders.
    pub counts: Counts,
    /// How many of them the audit looked at.
    pub audited: u64,
}

impl Service {
    /// Starts it; it works until it is stopped. As many workers as the machine has processors, unless said otherwise.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(workers: Option<usize>) -> Result<Self, StartError> {
        let mut builder = Runtime::builder();
        if let Some(workers) = workers {
            builder = builder.workers(workers);
        }
        let runtime = builder.build()?;
        let mut requests = load::requests();
        let tally = Tally::new(requests.iter().map(|request| (request.tenant.clone(), request.route.clone())));
        for request in &mut requests {
            let key = (request.tenant.clone(), request.route.clone());
            request.cell = tally.cell(&key).expect("the tally has a cell for each request");
        }
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            store: Store::default(),
            audit: Chan::with_capacity(AUDIT_QUEUE),
            tally,
            latencies: Latencies::new(),
            prices: requests.iter().map(|request| (request.id, request.expected)).collect(),
        });
        let schedule = Schedule::new(requests);
        let main = runtime.handle().spawn_with(task::Builder::new().name(MAIN_TASK), {
            let shared = shared.clone();
            move || run(&shared, schedule)
        })?;
        Ok(Self { shared, main, runtime })
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.runtime.handle().workers()
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.shared.tally.read()
    }

    /// How long orders took so far.
    pub fn times(&self) -> Times {
        self.shared.latencies.read()
    }

    /// Whether everything that is stored is right; gives how many orders that is.
    ///
    /// # Errors
    /// The first record that is not.
    pub fn verify(&self) -> Result<u64, Mismatch> {
        self.shared.store.verify(&self.shared.prices)
    }

    /// Stops the load, waits for the orders under way, and gives what was done. Tasks that sleep are left behind.
    ///
    /// # Errors
    /// If something that was stored is wrong, or missing.
    pub fn stop(self) -> Result<Summary, StopError> {
        // Relaxed: nothing else is read because of it.
        self.shared.stop.store(true, Ordering::Relaxed);
        let audited = self.main.join().map_err(|_| StopError::Panicked)??;
        let counts = self.shared.tally.read();
        let stored = self.shared.store.verify(&self.shared.prices)?;
        if stored + counts.wrong < counts.total() {
            return Err(StopError::Missing { handled: counts.total(), stored });
        }
        Ok(Summary { counts, audited })
    }
}

/// What can be wrong at the end.
#[derive(Debug, Error)]
pub enum StopError {
    /// A task of the service could not be started.
    #[error("a task of the service could not be started: {0}")]
    Spawn(#[from] SpawnError),
    /// A record is wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Orders are missing.
    #[error("{handled} orders were handled, but {stored} are stored")]
    Missing {
        /// Handled.
        handled: u64,
        /// Stored.
        stored: u64,
    },
    /// The service's own tasks panicked.
    #[error("the service panicked; what it said is above")]
    Panicked,
}

/// The first task: starts the others, waits for the generator to end, then ends them. Gives how many orders were audited.
fn run(shared: &Arc<Shared>, schedule: Schedule) -> Result<u64, SpawnError> {
    let (parking, drain) = parked::Parking::start()?;
    forgotten::leave()?;
    let named = |name: &str| task::Builder::new().name(name);
    let writer = named("store-writer").spawn({
        let shared = shared.clone();
        move || shared.store.write()
    })?;
    let audit = named("audit").spawn({
        let orders = shared.audit.clone();
        move || handle::audit(&orders)
    })?;
    let generator = named("generator").spawn({
        let shared = shared.clone();
        move || load::generate(&shared, schedule)
    })?;
    let panicked = |panic| std::panic::resume_unwind(panic);
    generator.join().unwrap_or_else(panicked);
    shared.store.close();
    writer.join().unwrap_or_else(panicked);
    shared.audit.close();
    parking.release();
    drain.join().unwrap_or_else(panicked);
    Ok(audit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::{
        load::{BUSY_TENANT, BUSY_TURNS},
        *,
    };

    #[test]
    fn the_service_does_what_it_was_asked_and_nothing_else() {
        let service = Service::start(Some(2)).unwrap();
        assert_eq!(service.workers(), 2);
        let deadline = Instant::now() + Duration::from_secs(60);
        while service.counts().total() < 500 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        service.verify().unwrap();
        let Summary { counts, audited } = service.stop().unwrap();
        assert!(counts.total() >= 500);
        assert_eq!(counts.wrong, 0);
        assert_eq!(counts.total(), audited + counts.unaudited);
        let tenants = counts.by_tenant();
        let busy = tenants[BUSY_TENANT];
        for (tenant, done) in tenants {
            // The last rotation may not have been finished.
            let turns = if tenant == BUSY_TENANT { BUSY_TURNS as u64 } else { 1 };
            assert!((done * BUSY_TURNS as u64).abs_diff(busy * turns) <= 4 * BUSY_TURNS as u64, "{tenant}: {done}");
        }
    }

    #[test]
    fn too_many_workers_are_refused() {
        assert!(matches!(Service::start(Some(usize::MAX)), Err(StartError::Build(_))));
    }
}
