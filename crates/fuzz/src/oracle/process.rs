//! The target's process, if it runs on this machine and is accessible.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Resource usage of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub memory: u64,
    /// The peak of it, bytes.
    pub peak: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// The process that listens on an address of this machine, if known.
#[must_use]
pub fn listening_on(target: SocketAddr) -> Option<u32> {
    if !target.ip().to_canonical().is_loopback() {
        return None;
    }
    let inode = inode_of(target)?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|id| has_descriptor(*id, &wanted))
}

/// The usage of a process now; `None` when it has exited, or is not accessible.
#[must_use]
pub fn usage(id: u32) -> Option<Usage> {
    let descriptors = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1_024)
    };
    Some(Usage {
        memory: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
        descriptors: u64::try_from(descriptors).ok()?,
    })
}

/// Whether a process with this id runs; a zombie does not.
#[must_use]
pub fn is_alive(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

fn has_descriptor(id: u32, wanted: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten();
    descriptors.flatten().any(|entry| {
        let link = fs::read_link(entry.path());
        link.is_ok_and(|link| link == Path::new(wanted))
    })
}

/// The inode of the listening socket for `target`.
fn inode_of(target: SocketAddr) -> Option<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| {
            table
                .lines()
                .skip(1)
                .find_map(|line| listener(line, target))
        })
}

/// The inode, if this line is of a socket that listens on `target`.
fn listener(line: &str, target: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let is_it = fields.get(3) == Some(&LISTEN)
        && u16::from_str_radix(port, 16) == Ok(target.port())
        && address_of(address).is_some_and(|ip| ip.is_unspecified() || ip == target.ip());
    fields.get(9).filter(|_| is_it)?.parse().ok()
}

/// An address as the kernel prints it: words of four bytes, each in host byte order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn the_process_behind_a_listening_socket_is_found_and_measured() {
        for ip in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                eprintln!("skipped: this machine has no {ip}");
                continue;
            };
            let address = listener.local_addr().expect("it is bound");
            let id = listening_on(address);
            assert_eq!(id, Some(std::process::id()), "{address}");
            drop(listener);
            assert_eq!(listening_on(address), None, "{address}");
        }
        let usage = usage(std::process::id()).expect("we may look at ourselves");
        assert!(usage.memory > 100_000 && usage.descriptors > 2, "{usage:?}");
        assert!(usage.peak > 100_000, "{usage:?}");
        assert!(is_alive(std::process::id()) && !is_alive(u32::MAX));
    }
}
