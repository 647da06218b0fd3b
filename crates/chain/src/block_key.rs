//! The key with which block files are obfuscated, `blocks/xor.dat`, looked at before the kernel
//! opens anything. Without the file the kernel writes a key of zeros, and with a wrong one it
//! reads none of the blocks and says that the database is damaged. Neither is mended by
//! removing the chainstate, and both are by the right file.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use handfast_disk::{Unreadable, quoted, read};

use crate::cause_on_disk::unreadable;

/// Its name, in the directory of the blocks.
const FILE: &str = "xor.dat";
/// Its length, bytes. Core `Obfuscation::KEY_SIZE`.
const KEY_BYTES: usize = 8;
/// Longest file that is read, bytes. What is behind the key is not looked at.
const MAX_BYTES: u64 = 64 << 10;

/// Why the key in the directory `blocks` is not that of the block files beside it, with the
/// remedy. `magic`: what a block file of the network begins with.
pub(crate) fn wrong_key(blocks: &Path, magic: [u8; 4]) -> Option<String> {
    let path = blocks.join(FILE);
    let shown = quoted(&path);
    let data = has_data(blocks);
    let remedy = match data {
        true => {
            "the block files cannot be read without it; restore it, or remove blocks, \
             blocks.journal and chainstate beside it to download everything again"
        }
        false => "remove it, no block was written with it",
    };
    let key: [u8; KEY_BYTES] = match read(&path, MAX_BYTES) {
        Ok(bytes) => match bytes.first_chunk() {
            Some(front) => *front,
            None => {
                return Some(format!(
                    "{shown} was cut short, most likely by a full disk: {remedy}"
                ));
            }
        },
        Err(found @ Unreadable::NotAFile(_)) => {
            return Some(format!("{shown} is no key ({found}): {remedy}"));
        }
        Err(Unreadable::TooLong { got, .. }) => {
            return Some(format!("{shown} is no key (it has {got} bytes): {remedy}"));
        }
        // A link that leads nowhere, or the file of another user.
        Err(Unreadable::Io(error)) if error.kind() != ErrorKind::NotFound || is_link(&path) => {
            let cause = unreadable(&path, &error);
            return Some(cause.unwrap_or_else(|| format!("{shown} cannot be read: {error}")));
        }
        // The kernel writes zeros then, which is right where blocks were written without a key.
        Err(_) => {
            let (file, _) = first_block_file(blocks).filter(|(_, front)| *front != magic)?;
            return Some(format!(
                "{shown} is missing, with which {} was written: {remedy}",
                quoted(&file)
            ));
        }
    };
    let (file, front) = first_block_file(blocks)?;
    let decoded: Vec<u8> = front
        .iter()
        .zip(key)
        .map(|(byte, key)| byte ^ key)
        .collect();
    (decoded != magic).then(|| {
        format!(
            "{shown} is not the key with which {} was written: {remedy}",
            quoted(&file)
        )
    })
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Block files and files of undo data that are not empty, in order.
fn files(blocks: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(blocks).into_iter().flatten().flatten();
    let is_one =
        |name: &str| (name.starts_with("blk") || name.starts_with("rev")) && name.ends_with(".dat");
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| is_one(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0))
        .collect();
    files.sort();
    files
}

fn has_data(blocks: &Path) -> bool {
    !files(blocks).is_empty()
}

/// The first block file that is written to, and what it begins with. Of a pruned chain it is
/// not the one with number zero. One that has only been reserved begins with zeros.
fn first_block_file(blocks: &Path) -> Option<(PathBuf, [u8; 4])> {
    let is_block_file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("blk")
    };
    files(blocks)
        .into_iter()
        .filter(is_block_file)
        .find_map(|path| {
            let mut front = [0; 4];
            File::open(&path).ok()?.read_exact(&mut front).ok()?;
            (front != [0; 4]).then_some((path, front))
        })
}

#[cfg(test)]
mod tests {
    use handfast_disk::testing::{SpecialFile, put_special_file};

    use super::*;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
    const KEY: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    /// A directory of blocks that were written with [`KEY`], and the path of the key.
    fn blocks() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let block: Vec<u8> = MAGIC
            .iter()
            .zip(KEY)
            .map(|(byte, key)| byte ^ key)
            .collect();
        fs::write(dir.path().join("blk00000.dat"), block).expect("written");
        let key = dir.path().join(FILE);
        fs::write(&key, KEY).expect("written");
        (dir, key)
    }

    #[track_caller]
    fn refused(dir: &Path, said: &str) -> String {
        let cause = wrong_key(dir, MAGIC).expect("it is refused");
        assert!(cause.contains(FILE) && cause.contains(said), "{cause}");
        cause
    }

    #[test]
    fn the_right_key_is_taken_and_none_where_nothing_was_written_with_one() {
        let (dir, key) = blocks();
        assert_eq!(wrong_key(dir.path(), MAGIC), None);
        // What is behind it is not looked at, by the kernel either.
        fs::write(&key, [&KEY[..], b"more"].concat()).expect("written");
        assert_eq!(wrong_key(dir.path(), MAGIC), None);
        fs::remove_file(&key).expect("removed");
        fs::write(dir.path().join("blk00000.dat"), MAGIC).expect("written");
        assert_eq!(wrong_key(dir.path(), MAGIC), None, "written without a key");
        fs::write(dir.path().join("blk00000.dat"), [0; 64]).expect("written");
        assert_eq!(wrong_key(dir.path(), MAGIC), None, "only reserved");
        let new = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(wrong_key(new.path(), MAGIC), None);
        assert_eq!(wrong_key(&new.path().join("none"), MAGIC), None);
    }

    #[test]
    fn a_key_that_is_missing_cut_short_or_another_is_the_cause_and_not_the_chainstate() {
        let (dir, key) = blocks();
        for (bytes, said) in [
            (&KEY[..7], "cut short"),
            (&[], "cut short"),
            (&[0; 8], "is not the key with which"),
            (&[1, 2, 3, 5, 5, 6, 7, 8], "is not the key with which"),
        ] {
            fs::write(&key, bytes).expect("written");
            let cause = refused(dir.path(), said);
            assert!(cause.ends_with("download everything again"), "{cause}");
        }
        fs::remove_file(&key).expect("removed");
        refused(dir.path(), "is missing");
        // Of a pruned chain the first files are gone.
        fs::rename(
            dir.path().join("blk00000.dat"),
            dir.path().join("blk00007.dat"),
        )
        .expect("renamed");
        assert!(refused(dir.path(), "is missing").contains("blk00007.dat"));
    }

    #[test]
    fn a_key_that_nothing_was_written_with_is_to_be_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join(FILE), "").expect("written");
        let cause = refused(dir.path(), "cut short");
        assert!(cause.ends_with("no block was written with it"), "{cause}");
    }

    #[test]
    fn what_is_no_file_is_told_and_never_waited_for() {
        for special in SpecialFile::ALL {
            let (dir, key) = blocks();
            fs::remove_file(&key).expect("removed");
            put_special_file(&key, special);
            let cause = refused(dir.path(), "is no key");
            assert!(cause.contains("restore it"), "{special:?} {cause}");
        }
        let (dir, key) = blocks();
        fs::remove_file(&key).expect("removed");
        std::os::unix::fs::symlink("/nowhere/xor.dat", &key).expect("made");
        refused(dir.path(), "which does not exist");
    }
}
