//! The demos that exist, for `list`.

use crate::table::Table;

/// Name, and what one sees.
pub const DEMOS: [(&str, &str); 9] = [
    ("churn", "a job that allocates without need, found by alloc_space; before and after side by side"),
    ("contention", "a lock and a channel that tasks wait for, found by the mutex and block profiles, and repaired"),
    ("growth", "tasks that grow from 100 to 10 000, found by counting them in the task profile, and repaired"),
    ("latency", "requests that wait while the processor is idle, found by the execution trace; before and after"),
    ("leaks", "programs of which is known what leaks in them: what a detector reports, against what it should"),
    ("orders", "a service that prices orders of several tenants: CPU by function, tenant and route; tasks that wait"),
    ("retain", "memory that waiting tasks hold, found by inuse_space and its labels; before and after"),
    ("tour", "orders, looked at through its own port: every profile captured, explained and checked"),
    ("watch", "tasks that pile up while nobody looks, and the capture that a threshold made of them"),
];

/// The list as a table.
pub fn list() -> String {
    let mut table = Table::new(["DEMO", "WHAT IT SHOWS"]);
    for (name, shows) in DEMOS {
        table.row([name.to_owned(), shows.to_owned()]);
    }
    table.render("")
}
