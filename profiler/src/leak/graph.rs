//! The wait graph of a report: who waits for what, and who could wake them.
//!
//! Nodes are tasks and primitives. An edge leads from a task to what it waits for, and from a primitive to each leaked task that
//! could wake those who wait for it. So a circle of edges is a deadlock if locks make it, and a task from which no edge
//! leads to another waits for something that nobody has any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
};

use greenprof_runtime::task::TaskId;

use super::report::{Leak, Primitive, Report, WaitsOn};

/// A node of a [`WaitGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// A task. It is not in the report if it is the main task in an empty select.
    Task(TaskId),
    /// A primitive, by its number in the report.
    Primitive(u32),
}

impl fmt::Display for Node {
    /// Unique in a graph, and a name in Graphviz's language: `t7`, `p3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => write!(f, "t{task}"),
            Self::Primitive(number) => write!(f, "p{number}"),
        }
    }
}

/// What an edge of a [`WaitGraph`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// The task waits for the primitive, or for the end of the other task.
    WaitsFor,
    /// Who waits for the primitive could be woken by the task.
    WokenBy,
}

impl Relation {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitsFor => "waits for",
            Self::WokenBy => "could be woken by",
        }
    }
}

/// An edge of a [`WaitGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Edge {
    /// Where it begins.
    pub from: Node,
    /// Where it leads.
    pub to: Node,
    /// What it says.
    pub relation: Relation,
}

/// Who of the reported tasks waits for what, and who could wake them.
///
/// ```standalone_crate
/// use greenprof_profiler::leak::{self, Relation};
/// use greenprof_runtime::{Runtime, sync::Chan};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// runtime.handle().spawn(|| Chan::<u32>::new().recv())?; // nobody else has the channel
/// for edge in leak::detect()?.wait_graph().edges {
///     println!("{} {} {}", edge.from, edge.relation.as_str(), edge.to); // t1 waits for p1
///     assert!(matches!(edge.relation, Relation::WaitsFor | Relation::WokenBy));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitGraph {
    /// In order, each once.
    pub nodes: Vec<Node>,
    /// In order, each once.
    pub edges: Vec<Edge>,
}

impl WaitGraph {
    /// Of holders of primitives, those that `is_told` lets in.
    pub(super) fn of<'a>(leaks: impl Iterator<Item = &'a Leak>, is_told: impl Fn(TaskId) -> bool) -> Self {
        let (mut nodes, mut edges) = (BTreeSet::new(), BTreeSet::new());
        for leak in leaks {
            let from = Node::Task(leak.id());
            nodes.insert(from);
            for on in &leak.waits_on {
                let to = match on {
                    WaitsOn::Task(task) => Node::Task(*task),
                    WaitsOn::Primitive(primitive) => Node::Primitive(primitive.number),
                };
                // The holders of a primitive are entered with the first who waits for it.
                let is_new = nodes.insert(to);
                edges.insert(Edge { from, to, relation: Relation::WaitsFor });
                if let (WaitsOn::Primitive(primitive), true) = (on, is_new) {
                    for holder in primitive.held_by.iter().filter(|task| is_told(**task)).map(|task| Node::Task(*task))
                    {
                        nodes.insert(holder);
                        edges.insert(Edge { from: to, to: holder, relation: Relation::WokenBy });
                    }
                }
            }
        }
        Self { nodes: nodes.into_iter().collect(), edges: edges.into_iter().collect() }
    }
}

impl Report {
    /// The wait graph of all tasks of the report; of the candidates, if the scan was not complete.
    pub fn wait_graph(&self) -> WaitGraph {
        WaitGraph::of(self.tasks.iter(), |_| true)
    }

    /// The primitives that reported tasks wait for, by number.
    pub fn primitives(&self) -> BTreeMap<u32, &Primitive> {
        self.tasks.iter().flat_map(Leak::primitives).map(|primitive| (primitive.number, primitive)).collect()
    }
}

/// Nodes beyond these are left out of a drawing, which nobody could read with more.
const MOST_DRAWN: usize = 400;

/// The graph in Graphviz's language, for `dot -Tsvg`.
pub(super) fn dot(report: &Report) -> String {
    let graph = report.wait_graph();
    let tasks: BTreeMap<TaskId, &Leak> = report.tasks.iter().map(|leak| (leak.id(), leak)).collect();
    let primitives = report.primitives();
    let deadlocked: BTreeSet<TaskId> =
        report.deadlocks.iter().flat_map(|deadlock| deadlock.tasks.iter().map(|(task, _)| *task)).collect();
    let mut text = "digraph leaks {\n  rankdir=LR;\n  node [fontname=\"sans-serif\" fontsize=10];\n".to_owned();
    let drawn: BTreeSet<Node> = drawn(&graph);
    for node in &drawn {
        // Writing to a String cannot fail, here and below.
        let _ = match node {
            Node::Task(task) => match tasks.get(task) {
                Some(leak) => {
                    let colour = match (deadlocked.contains(task), leak.hostage) {
                        (true, _) => "#f4b6b6",
                        (false, true) => "#eeeeee",
                        (false, false) => "#f9e0a8",
                    };
                    let label = task_label(leak);
                    writeln!(text, "  {node} [shape=box style=filled fillcolor=\"{colour}\" label=\"{label}\"];")
                }
                None => writeln!(text, "  {node} [shape=box style=dashed label=\"task {task}\\nnot reported\"];"),
            },
            Node::Primitive(number) => {
                let label = primitives.get(number).map_or_else(String::new, |primitive| primitive_label(primitive));
                writeln!(text, "  {node} [shape=ellipse label=\"{label}\"];")
            }
        };
    }
    for edge in graph.edges.iter().filter(|edge| drawn.contains(&edge.from) && drawn.contains(&edge.to)) {
        let style = if edge.relation == Relation::WaitsFor { "" } else { " style=dashed" };
        let _ = writeln!(text, "  {} -> {} [label=\"{}\"{style}];", edge.from, edge.to, edge.relation.as_str());
    }
    let rest = graph.nodes.len() - drawn.len();
    if rest > 0 {
        let _ = writeln!(text, "  rest [shape=plaintext label=\"and {rest} nodes more: format=json has all\"];");
    }
    if report.tasks.is_empty() {
        text.push_str("  rest [shape=plaintext label=\"no task is leaked\"];\n");
    }
    text.push_str("}\n");
    text
}

/// The nodes that are drawn: all, or those around the first ones.
fn drawn(graph: &WaitGraph) -> BTreeSet<Node> {
    if graph.nodes.len() <= MOST_DRAWN {
        return graph.nodes.iter().copied().collect();
    }
    // Along edges, so that what is drawn belongs together.
    let mut drawn = BTreeSet::new();
    for edge in &graph.edges {
        if drawn.len() + 2 > MOST_DRAWN {
            break;
        }
        drawn.extend([edge.from, edge.to]);
    }
    drawn
}

fn task_label(leak: &Leak) -> String {
    let name = leak.task.name.as_deref().map_or_else(String::new, |name| format!("{}\\n", escape(name)));
    let hostage = if leak.hostage { "\\nhostage" } else { "" };
    format!("{name}task {}\\n{}{hostage}", leak.id(), leak.reason())
}

fn primitive_label(primitive: &Primitive) -> String {
    let made = primitive.created_at.map_or_else(String::new, |at| format!("\\n{}:{}", escape(at.file()), at.line()));
    format!("{:?} {}{made}", primitive.kind, primitive.number)
}

/// For a quoted string of Graphviz's language.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_cannot_end_a_label() {
        assert_eq!(escape("a\"];\nb\\"), "a\\\"]; b\\\\");
    }
}
