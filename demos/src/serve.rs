//! `orders` by itself: the service under load with its port open, and a line now and then that says how fast it is.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::{
    console::{self, Step},
    interrupt::Interrupt,
    orders::{Service, StopError, Summary, tally::Counts},
    setup::{self, SetupError},
    table::{Table, count, percent},
};

/// Time between two looks at the speed, on a terminal and elsewhere.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What the service is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the port is.
    pub address: String,
    /// How long; without it until Ctrl-C.
    pub seconds: Option<u64>,
    /// How many workers.
    pub workers: Option<usize>,
}

/// Why the service did not run to its end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// It did not begin.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// It did wrong.
    #[error(transparent)]
    Stop(#[from] StopError),
}

/// Runs the service and says at the end what it did.
///
/// # Errors
/// See [`ServeError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<(), ServeError> {
    let server = setup::open_port(&settings.address)?;
    let service = setup::start_orders(settings.workers)?;
    interrupt.end_in_order();
    let end = settings.seconds.map_or("until Ctrl-C".to_owned(), |seconds| format!("for {seconds} s"));
    let address = server.local_addr();
    console::note(&format!(
        "orders runs on {} workers {end}; its page is http://{address}/debug/pprof/ui/\n\
         a flame graph of its next five seconds: http://{address}/debug/pprof/ui/?capture=profile#profiles",
        service.workers(),
    ));
    let elapsed = until_asked(&service, interrupt, settings.seconds.map(Duration::from_secs));
    let summary = service.stop()?;
    server.shutdown();
    console::print(&render(&summary, elapsed));
    Ok(())
}

/// Shows how fast the service is, for so long, or until somebody wants it to end. Gives how long that was.
pub fn until_asked(service: &Service, interrupt: &Interrupt, length: Option<Duration>) -> Duration {
    let start = Instant::now();
    let step = Step::start("orders", None);
    let look = if io::stderr().is_terminal() { LOOKS.0 } else { LOOKS.1 };
    let mut before = (service.counts(), start);
    loop {
        let left = length.map_or(look, |length| length.saturating_sub(start.elapsed()).min(look));
        if left.is_zero() || interrupt.wait(left) {
            break;
        }
        let now = (service.counts(), Instant::now());
        let rate = now.0.since(&before.0).total() as f64 / (now.1 - before.1).as_secs_f64();
        let text = format!("orders: {} a second, {} in all", count(rate as u64), count(now.0.total()));
        step.say(text, start.elapsed());
        before = now;
    }
    step.clear();
    start.elapsed()
}

/// What was done, by tenant and route.
fn render(Summary { counts, audited }: &Summary, elapsed: Duration) -> String {
    let total = counts.total();
    let mut text = format!(
        "{} orders in {:.1} s, {} a second; all that were stored add up; {} priced wrong; {} audited\n",
        count(total),
        elapsed.as_secs_f64(),
        count((total as f64 / elapsed.as_secs_f64()) as u64),
        count(counts.wrong),
        count(*audited),
    );
    text.push_str(&by_tenant_and_route(counts).render("  "));
    text
}

fn by_tenant_and_route(counts: &Counts) -> Table {
    let mut table = Table::new(["tenant", "route", ">orders", ">share"]);
    for ((tenant, route), &done) in &counts.done {
        table.row([tenant.clone(), route.clone(), count(done), percent(done as f64, counts.total() as f64)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_tells_what_was_done() {
        let mut counts = Counts::default();
        counts.done.insert(("acme".to_owned(), "/orders".to_owned()), 3_000);
        counts.done.insert(("b".to_owned(), "/quotes".to_owned()), 1_000);
        let text = render(&Summary { counts, audited: 12 }, Duration::from_secs(2));
        assert_eq!(
            text,
            "4 000 orders in 2.0 s, 2 000 a second; all that were stored add up; 0 priced wrong; 12 audited\n  \
               tenant  route    orders  share\n  \
               acme    /orders   3 000  75.0%\n  \
               b       /quotes   1 000  25.0%\n"
        );
    }
}
