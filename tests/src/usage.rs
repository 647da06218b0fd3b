//! What a process has used so far, as the Linux kernel counts it.

use std::io;
use std::time::Duration;

/// A process's consumption at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads, user and system.
    pub cpu: Duration,
    /// The most memory that was ever resident, bytes.
    pub peak_resident: u64,
    /// Resident memory now, bytes.
    pub resident: u64,
}

impl Usage {
    /// Reads `/proc/<pid>`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        parse(&stat, &status, rustix::param::clock_ticks_per_second()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc has another format than we know",
            )
        })
    }
}

fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Usage> {
    // The second field, the name in parentheses, may hold anything, also spaces.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Usage {
        cpu: Duration::from_millis((user + system) * 1_000 / ticks_per_second),
        peak_resident: kilobytes("VmHWM:")? * 1_024,
        resident: kilobytes("VmRSS:")? * 1_024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 8 0 100 0 0";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Usage {
            cpu: Duration::from_secs(3),
            peak_resident: 2 << 20,
            resident: 1 << 20,
        };
        assert_eq!(parse(stat, status, 100), Some(expected));
    }

    #[test]
    fn a_process_can_look_at_itself() {
        let usage = Usage::of(std::process::id()).expect("we are alive");
        assert!(usage.peak_resident >= usage.resident && usage.resident > 0);
    }
}
