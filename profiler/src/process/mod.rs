//! Figures of the process as the kernel has them.

pub(crate) mod threads;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::ClockId;

/// CPU time of all threads since the process began.
pub(crate) fn cpu_time() -> Duration {
    nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Resident memory in bytes; nothing if `/proc` is not there.
pub(crate) fn resident() -> Option<u64> {
    let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    // SAFETY: no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

/// The smallest memory limit in bytes that a control group sets for this process; nothing if none does.
pub(crate) fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    group_folders(&groups, Path::new("/sys/fs/cgroup"))
        .iter()
        .filter_map(|(folder, file)| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
        // Version 1 says "no limit" as the largest number of whole pages.
        .filter(|limit| *limit < i64::MAX as u64 / 2)
        .min()
}

/// Where limits may stand: the folders of the process's groups and of those above them, and the names of the files. In a
/// container the path may be the host's, of which only the top is there.
fn group_folders(groups: &str, root: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let own = Path::new(path.trim_start_matches('/'));
        folders.extend(own.ancestors().map(|above| (top.join(above), file)));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_cpu_time() {
        assert!(resident().expect("/proc") > 1 << 20);
        let before = cpu_time();
        assert!(before > Duration::ZERO);
        assert_eq!(resident_pages("123 45 6 7 0 8 0\n"), Some(45));
        assert_eq!(resident_pages(""), None);
    }

    #[test]
    fn limits_are_looked_for_in_all_groups_above() {
        let folders = |groups| {
            let folders = group_folders(groups, Path::new("/r"));
            folders.into_iter().map(|(folder, file)| folder.join(file).display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(folders("0::/a/b\n"), ["/r/a/b/memory.max", "/r/a/memory.max", "/r/memory.max"]);
        assert_eq!(folders("0::/\n"), ["/r/memory.max"]);
        assert_eq!(
            folders("5:cpu,cpuacct:/x\n4:hugetlb,memory:/d/1\n"),
            ["/r/memory/d/1", "/r/memory/d", "/r/memory"].map(|folder| format!("{folder}/memory.limit_in_bytes"))
        );
        assert!(folders("nonsense\n").is_empty());
    }
}
