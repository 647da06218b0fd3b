//! The addresses of this machine's network interfaces.

use std::net::{IpAddr, SocketAddr};

/// Where peers may reach the listening sockets that are bound to any address (`0.0.0.0`, `[::]`):
/// each address of an interface that is up, of the socket's family and with its port. Those
/// that the internet does not lead to are among them. Core `Discover`.
///
/// Read once, when the node starts, as in Core. None, and a line in the log, if the system does
/// not tell.
pub(crate) fn discover(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    if !listen.iter().any(is_any) {
        return Vec::new();
    }
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => {
            let up = interfaces.iter().filter(|it| it.is_oper_up());
            reached_at(listen, up.map(if_addrs::Interface::ip))
        }
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be listed; name one with --external-ip");
            Vec::new()
        }
    }
}

/// Whether no loopback interface is up. Not if the system does not tell.
pub(crate) fn loopback_is_down() -> bool {
    let up = |it: &if_addrs::Interface| it.is_loopback() && it.is_oper_up();
    if_addrs::get_if_addrs().is_ok_and(|all| !all.iter().any(up))
}

fn is_any(listening: &SocketAddr) -> bool {
    listening.ip().is_unspecified()
}

/// Each address once, with the port of the first socket that covers it.
fn reached_at(listen: &[SocketAddr], ips: impl Iterator<Item = IpAddr>) -> Vec<SocketAddr> {
    let mut reached: Vec<SocketAddr> = Vec::new();
    for ip in ips {
        let covers = |socket: &&SocketAddr| is_any(socket) && socket.is_ipv4() == ip.is_ipv4();
        if let Some(socket) = listen.iter().find(covers)
            && reached.iter().all(|addr| addr.ip() != ip)
        {
            reached.push(SocketAddr::new(ip, socket.port()));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        let addr = |text: &&str| text.parse().expect("an address");
        texts.iter().map(addr).collect()
    }

    #[test]
    fn an_interface_is_reached_by_the_socket_that_covers_its_family_and_named_once() {
        let ips = ["127.0.0.1", "8.8.4.4", "2600::1", "8.8.4.4"];
        let ips = ips.map(|ip| ip.parse().expect("an address"));
        let reached = |listen: &[&str]| reached_at(&addrs(listen), ips.into_iter());
        let both = ["127.0.0.1:2", "0.0.0.0:1", "[::]:3", "0.0.0.0:4"];
        let expected = addrs(&["127.0.0.1:1", "8.8.4.4:1", "[2600::1]:3"]);
        assert_eq!(reached(&both), expected);
        assert_eq!(reached(&["[::]:3"]), addrs(&["[2600::1]:3"]));
        assert_eq!(reached(&["8.8.8.8:1", "[::1]:1"]), []);
    }

    #[test]
    fn the_addresses_of_this_machine_are_listed_and_only_for_a_socket_on_any_address() {
        let all = discover(&addrs(&["0.0.0.0:7"]));
        assert!(
            all.contains(&"127.0.0.1:7".parse().expect("an address")),
            "{all:?}"
        );
        assert_eq!(discover(&addrs(&["127.0.0.1:7"])), []);
        assert!(!loopback_is_down());
    }
}
