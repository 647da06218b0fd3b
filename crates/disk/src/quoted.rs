//! Quoting of paths for a shell.

use std::path::Path;

/// `path` for a hint that is copied into a shell: in quotes when it has characters that are
/// special there.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    match shlex::try_quote(&text) {
        Ok(quoted) => quoted.into_owned(),
        // Only a NUL byte has no quoted form, and no path has one.
        Err(_) => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_hint_can_be_copied_into_a_shell() {
        assert_eq!(quoted(Path::new("/d/chainstate")), "/d/chainstate");
        assert_eq!(quoted(Path::new("/my data")), "'/my data'");
        assert_eq!(quoted(Path::new("/it's")), "\"/it's\"");
    }
}
