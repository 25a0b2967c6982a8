//! The `threadcreate` profile: the OS threads that run tasks, by the stack that made them.
//!
//! There is one sample for each worker that exists: those that a runtime was built with were made by who built it, and those that stand
//! in for blocked workers by who noticed. Threads that the program makes itself are not known to the runtime. (Go keeps no
//! stack for most of its threads, and its profile shows an empty one.)

use greenprof_runtime::{heap, world};

use crate::{
    http::NamedProfile,
    profile::{Profile, ProfileError, ValueType, encode},
    symbolize,
    text::count::{CountRecord, write_count_profile},
};

/// The profile as the port offers it.
///
/// ```
/// use greenprof_profiler::{http::NamedProfile, threads::ThreadProfile};
/// use greenprof_runtime::Runtime;
///
/// let runtime = Runtime::builder().workers(2).build()?;
/// runtime.run(|| assert!(ThreadProfile.count() >= 1));
/// let text = String::from_utf8(ThreadProfile.write(1)?)?;
/// assert!(text.starts_with("threadcreate profile: total "), "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadProfile;

fn profile() -> Profile {
    let kind = ValueType::new("threadcreate", "count");
    let mut profile = Profile::new(vec![kind.clone()], kind, 1);
    for worker in world::workers() {
        profile.push(worker.creation_stack(), vec![1], Vec::new());
    }
    profile.merge_equal();
    profile
}

impl NamedProfile for ThreadProfile {
    fn name(&self) -> &str {
        "threadcreate"
    }

    fn description(&self) -> &str {
        "Stack traces that led to the creation of the OS threads that run tasks."
    }

    fn count(&self) -> usize {
        world::workers().len()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| {
            let mut symbolizer = symbolize::shared().lock();
            if debug == 0 {
                return encode::encode(&profile(), &mut symbolizer);
            }
            let workers = world::workers();
            let records = workers.iter().map(|worker| CountRecord {
                count: 1,
                stack: worker.creation_stack(),
                ..CountRecord::default()
            });
            Ok(write_count_profile("threadcreate", records, &mut symbolizer).into_bytes())
        })
    }

    fn collect(&self) -> Option<Profile> {
        Some(heap::untracked(profile))
    }
}
