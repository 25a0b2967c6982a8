//! The demos that exist, for `list`.

use crate::table::Table;

/// Name, and what it teaches.
pub const DEMOS: [(&str, &str); 11] = [
    ("churn", "CPU spent on needless allocation: alloc_space names who allocates what is thrown away at once"),
    (
        "contention",
        "tasks that wait for a lock and a channel: the mutex profile names who holds, the block profile who waits",
    ),
    (
        "deadlock",
        "two tasks that wait for each other's lock: the leak detector finds the circle, and who is only a hostage",
    ),
    ("growth", "tasks left behind by an abandoned channel: two looks at the task profile name what has grown"),
    ("hotpath", "one function, and one tenant hidden in the sum: flat time of a CPU profile, then the same by label"),
    (
        "latency",
        "slow requests on an idle processor: the execution trace tells waiting, being runnable and running apart",
    ),
    (
        "leaks",
        "176 programs of which is known what leaks: what a detector reports, against what it should; --explain ID",
    ),
    ("orders", "a whole service under load, to look around in: CPU by function, tenant and route; tasks that wait"),
    ("retain", "memory that waiting tasks hold until it runs out: inuse_space and its labels name the holder"),
    ("tour", "every profile of orders, captured, explained and checked"),
    ("watch", "trouble while nobody looks: a threshold captures all profiles of the moment"),
];

/// The list as a table.
pub fn list() -> String {
    let mut table = Table::new(["DEMO", "WHAT IT TEACHES"]);
    for (name, shows) in DEMOS {
        table.row([name.to_owned(), shows.to_owned()]);
    }
    table.render("")
        + "\nEach takes --check, which runs it once and says whether it showed what it should; --help tells the rest.\n"
}
