//! Everything in a program with its own `main`: the allocator that heap profiles and leak detection need, the port, and a runtime.
//! Run it, and open http://127.0.0.1:6060/debug/pprof/ui/.

use greenprof_runtime::{Runtime, heap::Heap};

#[global_allocator]
static HEAP: Heap = Heap::new();

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _port = greenprof_profiler::serve("127.0.0.1:6060")?;
    Runtime::builder().build()?.run(program);
    Ok(())
}

/// Stands for what the program does; it runs as a task.
fn program() {
    loop {
        greenprof_runtime::sleep(std::time::Duration::from_secs(1));
    }
}
