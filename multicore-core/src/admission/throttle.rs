//! Whether the kernel stopped this process because its CPU quota was used up (`cpu.max` of a control
//! group, `--cpus` of a container). Helpers would use the quota up sooner, and then everybody waits for
//! the next period, neighbours included. How many cores the quota is worth is in the core count already.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Counts the periods in which the process was stopped.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// The `cpu.stat` of the process's control group and of those around it: the quota may be anywhere.
    files: Vec<PathBuf>,
    stopped: u64,
}

impl Throttle {
    /// Of this process. Finds nothing on systems without control groups.
    pub(crate) fn of_this_process() -> Self {
        Self::new(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), Path::new(MOUNT))
    }

    /// `groups` is what the kernel writes into `/proc/self/cgroup`: `hierarchy:controllers:path` a line.
    /// Version 2 has no controllers there; in version 1 they name the folder below the mount.
    pub(super) fn new(groups: &str, mount: &Path) -> Self {
        let mut files = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            if !controllers.is_empty() && !controllers.split(',').any(|name| name == "cpu") {
                continue;
            }
            let root = mount.join(controllers);
            let group = root.join(path.trim_start_matches('/'));
            let around = group.ancestors().take_while(|folder| folder.starts_with(&root));
            files.extend(around.map(|folder| folder.join("cpu.stat")));
        }
        let mut throttle = Throttle { files, stopped: 0 };
        // What is worth reading every second; in a container most of the host's groups are not there.
        throttle.files.retain(|file| periods(file).is_some());
        throttle.sample();
        throttle
    }

    /// Whether the process was stopped since the last time.
    pub(crate) fn sample(&mut self) -> bool {
        let stopped = self.files.iter().filter_map(|file| periods(file)).sum();
        std::mem::replace(&mut self.stopped, stopped) < stopped
    }
}

/// In how many periods so far; none where the file does not say.
fn periods(file: &Path) -> Option<u64> {
    let stat = fs::read_to_string(file).ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("multicore-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn write(&self, group: &str, periods: u64) {
            let folder = self.0.join(group);
            fs::create_dir_all(&folder).unwrap();
            let stat = format!("usage_usec 9\nnr_periods 7\nnr_throttled {periods}\nthrottled_usec 5\n");
            fs::write(folder.join("cpu.stat"), stat).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_stop_is_told_once() {
        let folder = Folder::new("once");
        folder.write("app", 3);
        let mut throttle = Throttle::new("0::/app\n", &folder.0);
        assert!(!throttle.sample(), "what was before the start does not count");
        folder.write("app", 4);
        assert!(throttle.sample());
        assert!(!throttle.sample());
    }

    #[test]
    fn the_quota_may_be_that_of_a_group_around() {
        let folder = Folder::new("around");
        folder.write("pod", 0);
        folder.write("pod/app", 0);
        let mut throttle = Throttle::new("0::/pod/app\n", &folder.0);
        folder.write("pod", 1);
        assert!(throttle.sample());
    }

    #[test]
    fn the_first_version_of_control_groups_is_read_too() {
        let folder = Folder::new("first");
        folder.write("cpu,cpuacct/app", 1);
        folder.write("memory/app", 1);
        let mut throttle = Throttle::new("9:memory:/app\n2:cpu,cpuacct:/app\n", &folder.0);
        folder.write("memory/app", 2);
        assert!(!throttle.sample());
        folder.write("cpu,cpuacct/app", 2);
        assert!(throttle.sample());
    }

    #[test]
    fn without_control_groups_nobody_is_stopped() {
        let folder = Folder::new("without");
        fs::write(folder.0.join("cpu.stat"), "usage_usec 9\n").unwrap();
        for groups in ["", "0::/", "0::/gone\n", "nonsense", "0::/../../etc"] {
            let mut throttle = Throttle::new(groups, &folder.0);
            assert!(!throttle.sample(), "{groups}");
        }
    }
}
