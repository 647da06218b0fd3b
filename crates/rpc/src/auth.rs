//! Authentication and authorization of TCP clients.
//!
//! Clients connect from an allowed address (loopback always is), and log in with the cookie or
//! the password of a configured user. A whitelist may restrict a user to some methods. The Unix
//! socket needs none of it: its file mode authenticates.
//!
//! # Security
//! Secrets are never logged, and compared in constant time. An unknown user costs as much as a
//! wrong password, and both cost [`guesses::FAILED_LOGIN_DELAY`].

mod cookie;
mod guesses;
mod host;
mod users;

pub use cookie::COOKIE_USER;
pub(crate) use cookie::Cookie;
pub(crate) use guesses::Guesses;
pub use users::{RpcUser, UserError, Whitelist, WhitelistError};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handfast_node::Subnet;

/// The configured access rules for TCP clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Users besides the one of the cookie. Core `-rpcauth`.
    pub users: Vec<RpcUser>,
    /// Whitelists of methods. If any user has one, users without one may call nothing, as with
    /// Core's `-rpcwhitelistdefault`.
    pub whitelists: Vec<Whitelist>,
    /// Addresses that may call, besides loopback. Core `-rpcallowip`.
    pub allowed: Vec<Subnet>,
    /// Host names under which clients may send requests without credentials, besides `localhost`
    /// and IP addresses.
    pub hosts: Vec<String>,
}

/// The methods that a client may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// All of them.
    All,
    /// These.
    Only(Arc<BTreeSet<String>>),
}

impl Rights {
    pub(crate) fn allow(&self, method: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(methods) => methods.contains(method),
        }
    }
}

/// The access control of the TCP sockets.
#[derive(Clone)]
pub(crate) struct Access {
    cookie: String,
    users: Vec<RpcUser>,
    /// `None`: no user is restricted.
    whitelists: Option<BTreeMap<String, Arc<BTreeSet<String>>>>,
    allowed: Vec<Subnet>,
    hosts: Vec<String>,
}

impl Access {
    pub(crate) fn new(rules: AccessRules, cookie: &str) -> Self {
        Self {
            cookie: cookie.to_owned(),
            whitelists: users::by_user(&rules.whitelists),
            users: rules.users,
            allowed: rules.allowed,
            hosts: rules.hosts,
        }
    }

    /// Whether a `Host` header names this machine, and not the origin of a web page.
    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        host::is_ours(host, &self.hosts)
    }

    /// Whether connections from this address are allowed.
    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || self.allowed.iter().any(|subnet| subnet.contains(ip))
    }

    /// The rights of the credentials in an `Authorization` header (RFC 7617); `None`: wrong ones.
    pub(crate) fn login(&self, header: &str) -> Option<Rights> {
        let encoded = header.strip_prefix("Basic ")?;
        let given = STANDARD.decode(encoded.trim()).ok()?;
        let given = String::from_utf8(given).ok()?;
        let (name, password) = given.split_once(':')?;
        // All users are tried, so that the time taken does not show which names exist.
        let cookie = COOKIE_USER == name && equal_in_constant_time(password, &self.cookie);
        let fits = self.users.iter().fold(cookie, |fits, user| {
            let fit = user.accepts(password);
            fits | (fit && user.name() == name)
        });
        fits.then(|| self.rights(name))
    }

    fn rights(&self, name: &str) -> Rights {
        match &self.whitelists {
            None => Rights::All,
            Some(lists) => Rights::Only(lists.get(name).cloned().unwrap_or_default()),
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access(…)")
    }
}

/// Takes the same time wherever the difference is. The length is no secret.
fn equal_in_constant_time(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> bool {
    let (a, b) = (a.as_ref(), b.as_ref());
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    fn access(rules: AccessRules) -> Access {
        Access::new(rules, "abc")
    }

    #[test]
    fn only_the_whole_cookie_logs_in() {
        let access = access(AccessRules::default());
        assert_eq!(
            access.login(&header("__cookie__:abc")),
            Some(Rights::All),
            "the cookie"
        );
        for wrong in [
            "__cookie__:ab",
            "__cookie__:abcd",
            "__cookie__:abd",
            "other:abc",
            "__cookie__",
            "",
            ":",
        ] {
            assert_eq!(access.login(&header(wrong)), None, "{wrong}");
        }
        for wrong in ["Bearer abc", "Basic ***", "basic", ""] {
            assert_eq!(access.login(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_user_logs_in_with_its_own_password_only() {
        let bob = RpcUser::new("bob", "salt", "secret:with:colons");
        let eve = RpcUser::new("eve", "salt", "other");
        let access = access(AccessRules {
            users: vec![bob, eve],
            ..AccessRules::default()
        });
        assert!(access.login(&header("bob:secret:with:colons")).is_some());
        assert!(access.login(&header("eve:other")).is_some());
        for wrong in [
            "bob:other",
            "eve:secret:with:colons",
            "bob:",
            "bob:secret",
            "carol:other",
        ] {
            assert_eq!(access.login(&header(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn with_a_whitelist_every_user_may_call_its_own_methods_and_nothing_else() {
        let access = access(AccessRules {
            users: vec![RpcUser::new("bob", "s", "p"), RpcUser::new("eve", "s", "p")],
            whitelists: vec!["bob:getblockcount, getpeerinfo".parse().unwrap()],
            ..AccessRules::default()
        });
        let bob = access.login(&header("bob:p")).unwrap();
        assert!(bob.allow("getblockcount") && bob.allow("getpeerinfo"));
        assert!(!bob.allow("stop") && !bob.allow("getblock"));
        for other in ["eve:p", "__cookie__:abc"] {
            let rights = access.login(&header(other)).unwrap();
            assert!(!rights.allow("getblockcount"), "{other}");
        }
    }

    #[test]
    fn loopback_is_always_allowed_and_other_addresses_by_subnet() {
        let access = access(AccessRules {
            allowed: vec!["192.0.2.0/24".parse().unwrap(), "fd00::7".parse().unwrap()],
            ..AccessRules::default()
        });
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.200", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.1", false),
            ("fd00::7", true),
            ("fd00::8", false),
        ] {
            assert_eq!(access.allows(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
