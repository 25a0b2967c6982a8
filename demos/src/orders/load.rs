//! The load: which order comes next, and the task that sends it in.
//!
//! Orders come in a fixed rotation in which one tenant has three turns and each other tenant one. A tenant's own orders
//! repeat in the order of the file. So after every rotation the shares of the tenants are known exactly.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use greenprof_runtime::{labels, sync::Chan, task};

use super::{
    Shared,
    document::{Order, decode, texts},
    handle::handle,
    price::price_order,
};

/// The tenant that sends more than the others.
pub const BUSY_TENANT: &str = "acme";

/// How many orders it sends for each one of another tenant.
pub const BUSY_TURNS: usize = 3;

/// Orders in the service at a time: enough to keep every worker of a large machine busy.
pub const IN_FLIGHT: usize = 256;

/// An order to be sent, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its JSON text.
    pub text: &'static str,
    /// Its number.
    pub id: u64,
    /// Its tenant.
    pub tenant: String,
    /// Its route.
    pub route: String,
    /// What it must come to: priced once, one after another, before the service starts.
    pub expected: u64,
    /// Where it is counted, in the service's tally.
    pub cell: usize,
}

/// The orders of the file, priced. `cell` is left at 0.
pub fn requests() -> Vec<Request> {
    let read = |text| {
        let order: Order = decode(text).expect("data/orders.json is what its tests say");
        let expected = price_order(&order).total;
        Request { text, id: order.id, tenant: order.tenant, route: order.route, expected, cell: 0 }
    };
    texts().into_iter().map(read).collect()
}

/// The rotation.
#[derive(Debug)]
pub struct Schedule {
    /// The requests of each tenant.
    queues: Vec<Vec<Arc<Request>>>,
    /// How many requests of each tenant have been given out.
    given: Vec<usize>,
    /// Tenants, as indices into `queues`.
    rotation: Vec<usize>,
    turn: usize,
}

impl Schedule {
    /// A rotation over requests, starting anew.
    pub fn new(requests: Vec<Request>) -> Self {
        let mut queues: BTreeMap<String, Vec<Arc<Request>>> = BTreeMap::new();
        for request in requests {
            queues.entry(request.tenant.clone()).or_default().push(Arc::new(request));
        }
        let busy = queues.keys().position(|tenant| tenant == BUSY_TENANT);
        let mut rotation: Vec<usize> = (0..queues.len()).filter(|&tenant| Some(tenant) != busy).collect();
        if let Some(busy) = busy {
            // Spread among the others, so that no moment belongs to one tenant.
            let gap = rotation.len() / BUSY_TURNS + 1;
            (0..BUSY_TURNS).for_each(|turn| rotation.insert((turn * (gap + 1)).min(rotation.len()), busy));
        }
        let queues: Vec<_> = queues.into_values().collect();
        Self { given: vec![0; queues.len()], queues, rotation, turn: 0 }
    }

    /// The request whose turn it is; it comes again after all others of its tenant.
    pub fn take(&mut self) -> Arc<Request> {
        let tenant = self.rotation[self.turn % self.rotation.len()];
        self.turn += 1;
        let queue = &self.queues[tenant];
        let request = queue[self.given[tenant] % queue.len()].clone();
        self.given[tenant] += 1;
        request
    }
}

/// Frees a place when an order has been handled, or its task has panicked.
struct Place {
    places: Chan<()>,
    shared: Arc<Shared>,
    sent: Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.latencies.record(self.sent.elapsed());
        let _ = self.places.try_recv();
    }
}

/// The generator's task: sends orders in until the service stops, then waits for those that are under way.
pub fn generate(shared: &Arc<Shared>, mut schedule: Schedule) {
    // A semaphore: a value in the channel is a place that is taken.
    let places = Chan::with_capacity(IN_FLIGHT);
    // Relaxed: nothing else is read because of it.
    while !shared.stop.load(Ordering::Relaxed) {
        let request = schedule.take();
        if places.send(()).is_err() {
            break;
        }
        let place = Place { places: places.clone(), shared: shared.clone(), sent: Instant::now() };
        labels::with(&[("tenant", request.tenant.as_str()), ("route", request.route.as_str())], || {
            let request = request.clone();
            let order = move || handle(&place.shared, &request);
            task::Builder::new().name("order").spawn(order).unwrap_or_else(|error| panic!("{error}"))
        });
    }
    // All places are ours again when all orders have been handled.
    for _ in 0..IN_FLIGHT {
        let _ = places.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_has_three_turns_for_each_of_another() {
        let mut schedule = Schedule::new(requests());
        let rotations = 600;
        let mut turns: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..rotations * schedule.rotation.len() {
            *turns.entry(schedule.take().tenant.clone()).or_default() += 1;
        }
        assert!(turns.len() > 2);
        for (tenant, turns) in turns {
            let expected = if tenant == BUSY_TENANT { BUSY_TURNS * rotations } else { rotations };
            assert_eq!(turns, expected, "{tenant}");
        }
    }

    #[test]
    fn the_busy_tenant_does_not_send_two_in_a_row() {
        let mut schedule = Schedule::new(requests());
        let tenants: Vec<String> = (0..70).map(|_| schedule.take().tenant.clone()).collect();
        let pairs = tenants.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(pairs <= 10, "once a rotation at most, where its end meets its start: {tenants:?}");
    }

    #[test]
    fn expected_totals_are_known_beforehand() {
        assert!(requests().iter().all(|request| request.expected > 0));
    }
}
