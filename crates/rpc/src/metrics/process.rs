//! Figures that the system has of the process, under the names that every Prometheus client
//! library
//! uses (`process_resident_memory_bytes` and its like). Linux only; elsewhere left out.

use std::fs;

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Bytes, and what they are of.
type Memory = (&'static str, &'static str, &'static str);

const MEMORY: [Memory; 3] = [
    (
        "process_resident_memory_bytes",
        "Resident memory size in bytes",
        "VmRSS:",
    ),
    (
        "process_resident_memory_max_bytes",
        "The most resident memory that there ever was, in bytes",
        "VmHWM:",
    ),
    (
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes",
        "VmSize:",
    ),
];

/// Registers everything that is known, in a registry without a prefix.
pub(super) fn register(registry: &mut Registry) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, key) in MEMORY {
        if let Some(bytes) = size(&status, key) {
            registry.register(name, help, ConstGauge::new(bytes as f64));
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The listing itself holds one while it is read.
        let open = open.count().saturating_sub(1);
        let help = "Number of open file descriptors";
        registry.register("process_open_fds", help, ConstGauge::new(open as f64));
    }
}

/// A line such as `VmRSS:  5120 kB` (`proc_pid_status(5)`), bytes.
fn size(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim();
    kilobytes.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_are_read_from_proc_and_omitted_elsewhere() {
        let status = "Name:\thandfast\nVmSize:\t  200000 kB\nVmRSS:\t   4096 kB\n";
        assert_eq!(size(status, "VmRSS:"), Some(4_194_304));
        assert_eq!(size(status, "VmHWM:"), None);
        assert_eq!(size("VmRSS: many kB", "VmRSS:"), None);
        assert_eq!(size("VmRSS: 18446744073709551615 kB", "VmRSS:"), None);
    }
}
