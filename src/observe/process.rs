//! What the kernel knows of this process, under the names that Prometheus clients agree on.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::observe::metrics::{Family, Kind};

/// Bytes of memory resident now; 0 where the kernel does not say.
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages =
        pages.as_deref().and_then(|s| s.split_whitespace().nth(1)).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size()
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|n| n.try_into().ok())
        .unwrap_or(4096)
}

/// Processor time used so far, by all threads.
fn cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros =
        |t: nix::sys::time::TimeVal| u64::try_from(t.tv_sec() * 1_000_000 + t.tv_usec()).unwrap_or(0);
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn max_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// The families of the process itself.
pub fn families(started: SystemTime) -> Vec<Family> {
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let one = |name, kind, help, value: f64| Family::new(name, kind, help).with(&[], value);
    vec![
        one("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", resident_bytes() as f64),
        one(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Processor time, user and system.",
            cpu().as_secs_f64(),
        ),
        one("process_max_fds", Kind::Gauge, "Most open file descriptors allowed.", max_files() as f64),
        one("process_open_fds", Kind::Gauge, "Open file descriptors.", open_files() as f64),
        one("process_start_time_seconds", Kind::Gauge, "Start of the process, since the epoch.", since),
    ]
}
