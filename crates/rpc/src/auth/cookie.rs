//! The cookie file: a process that can read it may call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use handfast_node::files::read;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// The user name in the cookie file. Core `COOKIEAUTH_USER`.
pub const COOKIE_USER: &str = "__cookie__";
/// Length of the secret, bytes. Core `COOKIE_SIZE`.
const SECRET_BYTES: usize = 32;
/// A longer file is none of ours, bytes.
const MAX_BYTES: u64 = 1_024;

/// The cookie file of this run. Removed when dropped, unless another run has replaced it.
pub(crate) struct Cookie {
    path: PathBuf,
    secret: String,
}

impl Cookie {
    /// Makes a new secret and writes it to `path`, whole or not at all, readable
    /// by this user alone.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut secret = [0u8; SECRET_BYTES];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(io::Error::other)?;
        let secret = crate::render::hex(&secret);
        let temp = path.with_extension("tmp");
        let mut file = create_private(&temp)?;
        file.write_all(content(&secret).as_bytes())?;
        drop(file);
        fs::rename(&temp, path)?;
        Ok(Self {
            path: path.to_owned(),
            secret,
        })
    }

    /// The password of [`COOKIE_USER`].
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

/// What is in the file.
fn content(secret: &str) -> String {
    format!("{COOKIE_USER}:{secret}")
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cookie({})", self.path.display())
    }
}

impl Drop for Cookie {
    fn drop(&mut self) {
        let ours = read(&self.path, MAX_BYTES)
            .is_ok_and(|found| found == content(&self.secret).as_bytes());
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the cookie file");
        }
    }
}

/// A new file that was never readable by others: an old one's mode would be inherited.
fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use handfast_api::COOKIE_FILE;

    use super::*;

    #[test]
    fn the_cookie_is_private_replaces_an_old_one_and_goes_with_its_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(COOKIE_FILE);
        fs::write(&path, "__cookie__:of a run that was killed").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");

        let cookie = Cookie::write(&path).expect("the cookie is written");
        let content = fs::read_to_string(&path).expect("it is there");
        let (user, secret) = content.split_once(':').expect("user:secret");
        assert_eq!((user, secret.len()), (COOKIE_USER, 2 * SECRET_BYTES));
        assert_eq!(
            fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        drop(cookie);
        assert!(!path.exists());
    }

    #[test]
    fn the_cookie_of_a_later_run_is_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(COOKIE_FILE);
        let first = Cookie::write(&path).expect("written");
        let second = Cookie::write(&path).expect("written");
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
