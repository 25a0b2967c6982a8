//! Who of the leaked waits for whom: circles of locks, and tasks that are only hostages.
//!
//! An edge leads from a task to another leaked one that has what could wake it. Tasks in a circle of edges are in a deadlock,
//! if locks make the circle; a task that is in none, and has an edge, would go on if the other did.

use std::collections::HashMap;

use greenprof_runtime::{sync::PrimitiveKind, task::TaskId};

use super::report::{Deadlock, Leak, WaitsOn};

/// Marks the hostages, and gives the deadlocks. Takes time in proportion to the waits and the holders.
pub(super) fn find(leaks: &mut [Leak]) -> Vec<Deadlock> {
    let graph = Graph::of(leaks);
    let circles = circles(&graph.edges);
    let mut size = vec![0; graph.edges.len()];
    circles[..leaks.len()].iter().for_each(|circle| size[*circle] += 1);
    for (at, leak) in leaks.iter_mut().enumerate() {
        let alone = size[circles[at]] == 1 && !graph.needs_itself[at];
        leak.hostage = alone && graph.needs_others[at];
    }
    let mut deadlocks: HashMap<usize, Vec<(TaskId, u32)>> = HashMap::new();
    for (at, leak) in leaks.iter().enumerate() {
        let in_circle = size[circles[at]] > 1 || graph.needs_itself[at];
        if let Some(lock) = lock(leak).filter(|_| in_circle) {
            deadlocks.entry(circles[at]).or_default().push((leak.id(), lock));
        }
    }
    let mut deadlocks: Vec<Deadlock> = deadlocks
        .into_iter()
        // All of the circle wait for locks.
        .filter(|(circle, tasks)| tasks.len() == size[*circle])
        .map(|(_, tasks)| Deadlock { tasks })
        .collect();
    deadlocks.sort_by_key(|deadlock| deadlock.tasks.first().map(|task| task.0));
    deadlocks
}

/// What each task needs to go on. A primitive is a node of its own, between those who wait for it and those who hold it: many
/// may share one.
struct Graph {
    /// First the tasks, then the primitives.
    edges: Vec<Vec<usize>>,
    /// Tasks that wait for their own end, or for a lock that they hold. Who has a handle of the channel that it waits for is
    /// not among them: that is how channels are used.
    needs_itself: Vec<bool>,
    needs_others: Vec<bool>,
}

impl Graph {
    fn of(leaks: &[Leak]) -> Self {
        let place: HashMap<TaskId, usize> = leaks.iter().enumerate().map(|(at, leak)| (leak.id(), at)).collect();
        let mut graph = Self {
            edges: vec![Vec::new(); leaks.len()],
            needs_itself: vec![false; leaks.len()],
            needs_others: vec![false; leaks.len()],
        };
        let mut nodes: HashMap<u32, usize> = HashMap::new();
        for (at, leak) in leaks.iter().enumerate() {
            for on in &leak.waits_on {
                match on {
                    WaitsOn::Task(task) => {
                        let Some(&other) = place.get(task) else { continue };
                        graph.edges[at].push(other);
                        graph.needs_itself[at] |= other == at;
                        graph.needs_others[at] |= other != at;
                    }
                    WaitsOn::Primitive(primitive) => {
                        let node = *nodes.entry(primitive.number).or_insert_with(|| {
                            // In the order of numbers, as are the leaks: so these are sorted.
                            let holders = primitive.held_by.iter().filter_map(|task| place.get(task).copied());
                            graph.edges.push(holders.collect());
                            graph.edges.len() - 1
                        });
                        let holds = graph.edges[node].binary_search(&at).is_ok();
                        graph.needs_itself[at] |= holds && is_lock(primitive.kind);
                        graph.needs_others[at] |= graph.edges[node].len() > usize::from(holds);
                        graph.edges[at].push(node);
                    }
                }
            }
        }
        graph
    }
}

fn is_lock(kind: PrimitiveKind) -> bool {
    matches!(kind, PrimitiveKind::Mutex | PrimitiveKind::RwLock | PrimitiveKind::Once)
}

/// The lock that a task waits for.
fn lock(leak: &Leak) -> Option<u32> {
    leak.waits_on.iter().find_map(|on| match on {
        WaitsOn::Primitive(primitive) if is_lock(primitive.kind) => Some(primitive.number),
        _ => None,
    })
}

/// A number for each node, the same for those that reach each other: Tarjan's algorithm, with its recursion in a list.
fn circles(edges: &[Vec<usize>]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let (mut order, mut low, mut circle) = (vec![NEW; edges.len()], vec![0; edges.len()], vec![NEW; edges.len()]);
    let (mut open, mut count) = (Vec::new(), 0);
    for root in 0..edges.len() {
        if order[root] != NEW {
            continue;
        }
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.pop() {
            if next == 0 {
                (order[node], low[node]) = (count, count);
                count += 1;
                open.push(node);
            }
            if let Some(&other) = edges[node].get(next) {
                path.push((node, next + 1));
                if order[other] == NEW {
                    path.push((other, 0));
                } else if circle[other] == NEW {
                    low[node] = low[node].min(order[other]);
                }
                continue;
            }
            if low[node] == order[node] {
                while let Some(member) = open.pop() {
                    circle[member] = node;
                    if member == node {
                        break;
                    }
                }
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    circle
}

#[cfg(test)]
mod tests {
    use super::circles;

    #[test]
    fn those_that_reach_each_other_have_one_number() {
        //   0 ⇄ 1 → 2 → 3 → 4 → 2    5 → 5    6
        let edges = [vec![1], vec![0, 2], vec![3], vec![4], vec![2], vec![5], vec![]];
        let circles = circles(&edges);
        assert_eq!(circles[0], circles[1]);
        assert!(circles[2] == circles[3] && circles[3] == circles[4]);
        let mut different = [circles[0], circles[2], circles[5], circles[6]];
        different.sort_unstable();
        assert!(different.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
