//! The cause of a database that does not open, as found in its files, the disk and the clock.
//! The kernel often reports only that it failed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handfast_disk::{Unreadable, check_not_special, quoted};
use rustix::fs::{Access, access};
use rustix::io::Errno;

/// A clock that shows an earlier time was never set: 2024, Unix time.
const EARLIEST: Duration = Duration::from_secs(1_704_067_200);
/// Free space below which the kernel does not write, bytes. Core `nMinDiskSpace`, 50 MiB.
const LEAST_FREE: u64 = 50 << 20;
/// The directories that the kernel opens. Other files, such as the journal or an index, have
/// their own errors.
const PARTS: [&str; 3] = ["chainstate", "blocks", "blocks/index"];

/// A cause outside the database, with its remedy: a broken link, missing permissions, a full
/// disk, a clock that was never set.
pub(crate) fn cause_on_disk(dir: &Path) -> Option<String> {
    let usable = |path: &Path| Ok(access(path, Access::READ_OK | Access::WRITE_OK)?);
    let parts = PARTS.iter().map(|part| dir.join(part));
    parts
        .clone()
        .find_map(|path| unusable(&path, &usable))
        .or_else(|| unreadable(dir, &usable(dir).err()?))
        .or_else(|| parts.chain([dir.to_owned()]).find_map(|path| full(&path)))
        .or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let unset = now.map_or(true, |now| now < EARLIEST);
            unset.then(|| "set the clock of this machine, then start again".to_owned())
        })
}

/// Whether the chainstate has coins and the block files are missing, as when their disk is not
/// mounted. The kernel would start a new chain in the empty directory.
pub(crate) fn lacks_blocks(dir: &Path) -> bool {
    if !dir.join("chainstate").join("CURRENT").exists() {
        return false;
    }
    let blocks = dir.join("blocks");
    let is_block_file = |name: &str| name.starts_with("blk") && name.ends_with(".dat");
    match fs::read_dir(&blocks) {
        Ok(entries) => !entries
            .flatten()
            .any(|entry| is_block_file(&entry.file_name().to_string_lossy())),
        // A broken link has its own error.
        Err(error) => error.kind() == ErrorKind::NotFound && fs::read_link(&blocks).is_err(),
    }
}

/// An entry among the kernel's files that is not a file: opening a pipe would wait for a writer.
pub(crate) fn special_file(dir: &Path) -> Option<(PathBuf, Unreadable)> {
    let entries = PARTS.iter().flat_map(|part| fs::read_dir(dir.join(part)));
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let others = paths.filter(|path| !path.is_dir());
    let mut special = others.filter_map(|path| Some((check_not_special(&path).err()?, path)));
    special
        .find_map(|(found, path)| matches!(found, Unreadable::NotAFile(_)).then_some((path, found)))
}

/// Why this user cannot use the directory at `path`, or a file in it.
fn unusable(path: &Path, usable: &impl Fn(&Path) -> io::Result<()>) -> Option<String> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return unreadable(path, &error),
    };
    // `lost+found` of a new file system belongs to root.
    let files = entries
        .flatten()
        .filter(|entry| entry.file_name() != "lost+found")
        .map(|entry| entry.path());
    std::iter::once(path.to_owned())
        .chain(files)
        .find_map(|path: PathBuf| unreadable(&path, &usable(&path).err()?))
}

/// The system's error for `path`, with a remedy; `None` if it does not explain a failure.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Option<String> {
    let shown = quoted(path);
    if Errno::from_io_error(error) == Some(Errno::LOOP) {
        return Some(format!("{shown} is a symbolic link to itself: correct it"));
    }
    match (error.kind(), fs::read_link(path)) {
        (ErrorKind::NotFound, Ok(target)) => Some(format!(
            "{shown} is a link to {}, which does not exist: mount the disk that it is on, or \
             correct the link",
            quoted(&target)
        )),
        (ErrorKind::PermissionDenied, _) => Some(format!(
            "make {shown} readable and writable for this user (and the other files there)"
        )),
        (ErrorKind::ReadOnlyFilesystem, _) => {
            Some(format!("make the file system of {shown} writable"))
        }
        (ErrorKind::NotADirectory, _) => {
            Some(format!("{shown} is a file, not a directory: move it away"))
        }
        _ => None,
    }
}

fn full(path: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(path).ok()?;
    too_full(path, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn too_full(path: &Path, free: u64) -> Option<String> {
    (free < LEAST_FREE).then(|| {
        format!(
            "free disk space, then start again: on the disk of {} {} MiB are free, and {} MiB \
             are needed",
            quoted(path),
            free >> 20,
            LEAST_FREE >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use handfast_disk::testing::{SpecialFile, put_special_file};

    use super::*;

    #[test]
    fn a_broken_or_circular_link_is_the_cause_instead_of_an_advice_to_remove_it() {
        for part in ["chainstate", "blocks"] {
            let home = tempfile::tempdir().unwrap();
            let away = home.path().join("unmounted");
            symlink(&away, home.path().join(part)).unwrap();
            let cause = cause_on_disk(home.path()).expect("it is seen");
            assert!(cause.contains("unmounted"), "{cause}");
            fs::remove_file(home.path().join(part)).unwrap();
            symlink(part, home.path().join(part)).unwrap();
            let cause = cause_on_disk(home.path()).expect("it is seen");
            assert!(cause.contains("link to itself"), "{cause}");
        }
    }

    #[test]
    fn a_pipe_among_the_files_of_the_kernel_is_found_before_it_is_opened() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("blocks/index")).unwrap();
        fs::create_dir(home.path().join("blocks/lost+found")).unwrap();
        fs::write(home.path().join("blocks/blk00000.dat"), "").unwrap();
        assert!(special_file(home.path()).is_none());
        for file in ["blocks/rev00000.dat", "blocks/index/CURRENT"] {
            put_special_file(&home.path().join(file), SpecialFile::Pipe);
            let (path, found) = special_file(home.path()).expect("it is found");
            assert!(path.ends_with(file), "{}", path.display());
            assert_eq!(found.to_string(), "it is a pipe, not a file");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_of_another_user_is_named_wherever_it_lies() {
        for file in [
            "blocks/blk00000.dat",
            "blocks/rev00000.dat",
            "blocks/xor.dat",
            "blocks/index/000005.ldb",
            "chainstate/CURRENT",
        ] {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir_all(home.path().join("blocks/index")).unwrap();
            fs::create_dir(home.path().join("chainstate")).unwrap();
            fs::write(home.path().join(file), "").unwrap();
            fs::create_dir(home.path().join("blocks/lost+found")).unwrap();
            let usable = |path: &Path| match path.ends_with(file) || path.ends_with("lost+found") {
                true => Err(ErrorKind::PermissionDenied.into()),
                false => Ok(()),
            };
            let mut causes = PARTS
                .iter()
                .filter_map(|part| unusable(&home.path().join(part), &usable));
            let cause = causes.next().expect("it is seen");
            assert!(
                cause.contains(file) && cause.contains("for this user"),
                "{cause}"
            );
        }
    }

    #[test]
    fn a_disk_is_full_before_its_last_byte_is_taken() {
        let home = Path::new("/d");
        let cause = too_full(home, 57 << 10).expect("it is full");
        assert!(cause.contains("free disk space"), "{cause}");
        assert_eq!(too_full(home, 50 << 20), None);
    }

    #[test]
    fn a_chainstate_without_its_block_files_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        assert!(!lacks_blocks(home.path()), "a new directory lacks nothing");
        fs::create_dir(home.path().join("chainstate")).unwrap();
        fs::write(home.path().join("chainstate/CURRENT"), "").unwrap();
        assert!(lacks_blocks(home.path()), "no directory");
        fs::create_dir(home.path().join("blocks")).unwrap();
        assert!(lacks_blocks(home.path()), "an empty one");
        fs::write(home.path().join("blocks/blk00000.dat"), "").unwrap();
        assert!(!lacks_blocks(home.path()));
    }
}
