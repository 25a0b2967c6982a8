//! A program that ends while its threads are stopped again and again. Without the test harness, because it is about the main
//! thread: std gives its signal stack back to the system when *any* thread ends the process (rust-lang/rust#161018), while handlers run
//! on it.

use std::{
    env, process,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, sleep,
    world::{self, Patience},
};

const CHILD: &str = "GREENPROF_TEST_EXIT_CHILD";

/// So that the end of the process takes a while.
extern "C" fn dawdle() {
    thread::sleep(Duration::from_millis(30));
}

fn child() {
    // SAFETY: the function has the signature that is asked for.
    assert_eq!(unsafe { libc::atexit(dawdle) }, 0);
    let runtime = Runtime::builder().workers(1).build().expect("threads");
    thread::spawn(|| {
        loop {
            assert!(world::stop(Patience::default(), |_| ()).is_ok());
        }
    });
    runtime.run(|| {
        sleep(Duration::from_millis(20));
        process::exit(7)
    })
}

fn main() -> ExitCode {
    if env::var_os(CHILD).is_some() {
        child();
    }
    let program = env::current_exe().expect("the system knows it");
    for _ in 0..5 {
        let status = Command::new(&program).env(CHILD, "1").status().expect("it runs");
        if status.code() != Some(7) {
            eprintln!("a program that ends on a task, while its threads are stopped: {status}");
            return ExitCode::FAILURE;
        }
    }
    println!("test a_program_can_end_on_a_task_while_its_threads_are_stopped ... ok");
    ExitCode::SUCCESS
}
