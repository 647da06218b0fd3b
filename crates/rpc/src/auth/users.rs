//! Configured users, by salted HMAC, and their whitelists.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::equal_in_constant_time;

/// A user: name, salt, and the HMAC-SHA256 of the password under the salt. What Core's
/// `rpcauth.py` prints: `NAME:SALT$HMAC`.
#[derive(Clone, PartialEq, Eq)]
pub struct RpcUser {
    name: String,
    salt: String,
    hmac: [u8; 32],
}

/// A text is no user. The text itself is not repeated: it is half a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must have the form NAME:SALT$HMAC, with an HMAC-SHA256 of 64 hexadecimal digits")]
pub struct UserError;

impl RpcUser {
    /// A user with this password.
    #[must_use]
    pub fn new(name: &str, salt: &str, password: &str) -> Self {
        Self {
            name: name.to_owned(),
            salt: salt.to_owned(),
            hmac: hmac(salt, password),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn accepts(&self, password: &str) -> bool {
        equal_in_constant_time(hmac(&self.salt, password), self.hmac)
    }
}

fn hmac(salt: &str, password: &str) -> [u8; 32] {
    let mut hmac =
        Hmac::<Sha256>::new_from_slice(salt.as_bytes()).expect("HMAC takes keys of any length");
    hmac.update(password.as_bytes());
    hmac.finalize().into_bytes().into()
}

impl FromStr for RpcUser {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let (name, secret) = text.split_once(':').ok_or(UserError)?;
        let (salt, digits) = secret.split_once('$').ok_or(UserError)?;
        let hmac = crate::render::unhex(digits).ok_or(UserError)?;
        let hmac = hmac.try_into().map_err(|_| UserError)?;
        if name.is_empty() || salt.is_empty() {
            return Err(UserError);
        }
        Ok(Self {
            name: name.to_owned(),
            salt: salt.to_owned(),
            hmac,
        })
    }
}

impl std::fmt::Debug for RpcUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RpcUser({})", self.name)
    }
}

/// The methods that one user may call: `NAME:METHOD,METHOD`. Core `-rpcwhitelist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whitelist {
    user: String,
    methods: BTreeSet<String>,
}

/// A text is no whitelist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhitelistError {
    /// It names no user.
    #[error("it must have the form USER:METHOD,METHOD")]
    Form,
    /// An unknown method: a whitelist with a typing error would go unnoticed.
    #[error("there is no method {0:?}; `handfast rpc help` lists them")]
    Unknown(String),
}

impl FromStr for Whitelist {
    type Err = WhitelistError;

    fn from_str(text: &str) -> Result<Self, WhitelistError> {
        let (user, methods) = text.split_once(':').ok_or(WhitelistError::Form)?;
        let methods = methods
            .split([',', ' '])
            .filter(|method| !method.is_empty());
        let methods: BTreeSet<String> = methods.map(str::to_owned).collect();
        if user.is_empty() {
            return Err(WhitelistError::Form);
        }
        if let Some(unknown) = methods
            .iter()
            .find(|name| crate::methods::find(name).is_none())
        {
            return Err(WhitelistError::Unknown(unknown.clone()));
        }
        Ok(Self {
            user: user.to_owned(),
            methods,
        })
    }
}

/// The whitelists by user; several lists of one user are intersected, as in Core.
pub(super) fn by_user(lists: &[Whitelist]) -> Option<BTreeMap<String, Arc<BTreeSet<String>>>> {
    let mut users = BTreeMap::<String, BTreeSet<String>>::new();
    for list in lists {
        users
            .entry(list.user.clone())
            .and_modify(|methods| methods.retain(|method| list.methods.contains(method)))
            .or_insert_with(|| list.methods.clone());
    }
    let users = users.into_iter();
    (!lists.is_empty()).then(|| users.map(|(user, list)| (user, Arc::new(list))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_as_rpcauth_prints_it() {
        // HMAC-SHA256 with the key "Jefe", test case 2 of RFC 4231.
        let user: RpcUser = "alice:Jefe$\
            5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            .parse()
            .unwrap();
        assert!(user.accepts("what do ya want for nothing?"));
        assert!(!user.accepts("what do ya want for nothing"));
        assert_eq!(user.name(), "alice");
        assert_eq!(format!("{user:?}"), "RpcUser(alice)", "no secret is shown");
    }

    #[test]
    fn an_invalid_user_is_refused_without_being_repeated() {
        let zeros = "0".repeat(64);
        for wrong in [
            String::new(),
            "alice".into(),
            "alice:password".into(),
            format!("alice:salt${}", "0".repeat(63)),
            format!("alice:salt${}", "g".repeat(64)),
            format!(":salt${zeros}"),
            format!("alice:${zeros}"),
            format!("alice:salt${zeros}00"),
        ] {
            let error = wrong.parse::<RpcUser>().expect_err(&wrong);
            assert!(wrong.is_empty() || !error.to_string().contains(&wrong));
        }
    }

    #[test]
    fn a_whitelist_accepts_only_existing_methods() {
        let list: Whitelist = "bob:getblockcount,getpeerinfo".parse().unwrap();
        assert_eq!(list.methods.len(), 2);
        assert!("bob:".parse::<Whitelist>().unwrap().methods.is_empty());
        assert_eq!("bob".parse::<Whitelist>(), Err(WhitelistError::Form));
        assert_eq!(
            "bob:getblokcount".parse::<Whitelist>(),
            Err(WhitelistError::Unknown("getblokcount".into()))
        );
    }

    #[test]
    fn two_whitelists_of_one_user_are_intersected() {
        let lists = ["bob:getblockcount,stop", "bob:stop,uptime"].map(|l| l.parse().unwrap());
        let users = by_user(&lists).unwrap();
        assert!(users["bob"].iter().eq(["stop"]));
        assert_eq!(by_user(&[]), None);
    }
}
