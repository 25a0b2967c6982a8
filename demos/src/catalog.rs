//! The demos that exist, for `list`.

use crate::table::Table;

/// Name, and what one sees.
pub const DEMOS: [(&str, &str); 5] = [
    ("churn", "a job that allocates without need, found by alloc_space; before and after side by side"),
    ("leaks", "programs of which is known what leaks in them: what a detector reports, against what it should"),
    ("orders", "a service that prices orders of several tenants: CPU by function, tenant and route; tasks that wait"),
    ("retain", "memory that waiting tasks hold, found by inuse_space and its labels; before and after"),
    ("tour", "orders, looked at through its own port: every profile captured, explained and checked"),
];

/// The list as a table.
pub fn list() -> String {
    let mut table = Table::new(["DEMO", "WHAT IT SHOWS"]);
    for (name, shows) in DEMOS {
        table.row([name.to_owned(), shows.to_owned()]);
    }
    table.render("")
}
