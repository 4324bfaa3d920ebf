//! What is measured: CPU time, memory, latencies; and the core on which.

use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

use super::Error;
use super::load::Counted;

/// The figures of one round of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// CPU time of the proxy's process per answered request, in µs.
    pub(crate) cpu_us: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Half of the answers took at most so many µs.
    pub(crate) p50_us: f64,
    /// All but one in a hundred took at most so many µs.
    pub(crate) p99_us: f64,
    /// How much of its core the proxy used, 0 to 1.
    pub(crate) busy: f64,
    /// Answers in the window.
    pub(crate) answered: usize,
    /// Answers that were wrong or never came.
    pub(crate) failures: u64,
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
}

impl Sample {
    /// None if nothing was answered.
    pub(crate) fn new(wall: Duration, cpu: Duration, mut counted: Counted) -> Option<Self> {
        counted.latencies.sort_unstable();
        let answered = counted.latencies.len();
        let us = |share| Some(f64::from(percentile(&counted.latencies, share)?) / 1000.0);
        Some(Self {
            cpu_us: cpu.as_secs_f64() * 1e6 / answered as f64,
            rate: answered as f64 / wall.as_secs_f64(),
            p50_us: us(0.5)?,
            p99_us: us(0.99)?,
            busy: cpu.as_secs_f64() / wall.as_secs_f64(),
            answered,
            failures: counted.failures,
            first_failure: counted.first_failure,
        })
    }
}

/// The value below or at which this share of the sorted values lies (nearest rank).
pub(crate) fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The middle value; of an even number, the mean of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Which core does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    load: usize,
    /// The core of the proxies.
    proxy: usize,
    /// Threads of a proxy: with more than one it has both cores, and so has the load.
    pub(crate) threads: usize,
}

impl Cores {
    /// Takes the first two cores this process may use, and moves it to the first.
    pub(crate) fn pick() -> Result<Self, Error> {
        let affinity = |errno: rustix::io::Errno| Error::Io("affinity", errno.into());
        let allowed = rustix::thread::sched_getaffinity(None).map_err(affinity)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let load = cores.next().unwrap_or_default();
        let proxy = cores.next().unwrap_or(load);
        let mut mine = CpuSet::new();
        mine.set(load);
        rustix::thread::sched_setaffinity(None, &mine).map_err(affinity)?;
        Ok(Self {
            load,
            proxy,
            threads: 1,
        })
    }

    /// Leaves both cores to proxies of two threads and to the load alike.
    ///
    /// # Errors
    /// There is only one core, or this process cannot be moved.
    pub(crate) fn share(self) -> Result<Self, Error> {
        if self.shared() {
            let text = "two threads need two cores, and only one may be used";
            return Err(Error::Setup(text.to_owned()));
        }
        let mut mine = CpuSet::new();
        mine.set(self.load);
        mine.set(self.proxy);
        let affinity = |errno: rustix::io::Errno| Error::Io("affinity", errno.into());
        rustix::thread::sched_setaffinity(None, &mine).map_err(affinity)?;
        Ok(Self { threads: 2, ..self })
    }

    /// Where a proxy runs, as `taskset --cpu-list` reads it.
    pub(crate) fn of_proxy(self) -> String {
        match self.threads {
            1 => self.proxy.to_string(),
            _ => format!("{},{}", self.load, self.proxy),
        }
    }

    /// Whether there is only one.
    pub(crate) fn shared(self) -> bool {
        self.load == self.proxy
    }
}

/// Allows this process and its children as many open files as the hard limit does.
pub(crate) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(errno) = rustix::process::setrlimit(Resource::Nofile, raised) {
        eprintln!(
            "bench: the limit of open files stays at {:?}: {errno}",
            limit.current
        );
    }
}

/// CPU time that all threads of a process have used, to the nanosecond where the kernel counts so
/// (`/proc/PID/task/*/schedstat`), else in clock ticks.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Error> {
    let failed = |error| Error::Io("reading the CPU time of a proxy", error);
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let path = task.map_err(failed)?.path().join("schedstat");
        match std::fs::read_to_string(path)
            .ok()
            .as_deref()
            .and_then(first_number)
        {
            Some(task) => nanos += task,
            None => return ticks(pid),
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// CPU time of the threads of a process that have used most, in nanoseconds, the busiest first.
pub(crate) fn busiest(pid: u32) -> Result<Vec<(String, u64)>, Error> {
    let failed = |error| Error::Io("reading the CPU time of threads", error);
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let task = task.map_err(failed)?;
        let stat = std::fs::read_to_string(task.path().join("schedstat"));
        if let Some(nanos) = stat.ok().as_deref().and_then(first_number) {
            threads.push((task.file_name().to_string_lossy().into_owned(), nanos));
        }
    }
    threads.sort_by_key(|(_, nanos)| std::cmp::Reverse(*nanos));
    Ok(threads)
}

/// `utime` and `stime` of `/proc/PID/stat` (proc(5), fields 14 and 15).
fn ticks(pid: u32) -> Result<Duration, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|error| Error::Io("reading the CPU time of a proxy", error))?;
    let used = stat_ticks(&stat)
        .ok_or_else(|| Error::Run(format!("/proc/{pid}/stat makes no sense: {stat}")))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(used as f64 / per_second as f64))
}

fn stat_ticks(stat: &str) -> Option<u64> {
    // The command's name may hold spaces and brackets; what follows its last bracket does not.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process in KiB, exactly (`smaps_rollup`; `statm` lags behind).
pub(crate) fn rss_kib(pid: u32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::Io("reading the memory of a proxy", error))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(first_number)
        .ok_or_else(|| Error::Run(format!("{path} has no Rss")))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 8.0]), Some(3.0));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50));
        assert_eq!(percentile(&sorted, 0.99), Some(99));
        assert_eq!(percentile(&[7], 0.5), Some(7));
        assert_eq!(percentile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn a_command_name_with_brackets_does_not_confuse() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1 0";
        assert_eq!(stat_ticks(stat), Some(42));
        assert_eq!(stat_ticks("nonsense"), None);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let start = std::time::Instant::now();
        let mut turns: u64 = 0;
        while start.elapsed() < Duration::from_millis(200) {
            turns = std::hint::black_box(turns + 1);
        }
        assert!(cpu_time(pid).unwrap() > before);
        assert!(rss_kib(pid).unwrap() > 100);
    }
}
