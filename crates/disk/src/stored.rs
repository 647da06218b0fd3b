//! One piece of state and its file: [`StateFile`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::replace;
use crate::state_file::{self, Checksum};

/// The form that some state has on disk: all in which state files differ.
///
/// bincode writes fields in their order and no names, so a form is a type of its own, next to
/// the state that it is of: a field that moves there does not change what is on disk.
pub trait Form: Serialize + DeserializeOwned {
    /// What it is the form of. Its default is what there is without a file.
    type State: Default;
    /// The name of the file in its directory.
    const FILE: &'static str;
    /// Raised when the form changes its meaning.
    const VERSION: u32;
    /// What it means that a file cannot be read and what helps, for the log.
    const LOSS: &'static str;

    /// The form of a state.
    fn of(state: &Self::State) -> Self;

    /// The state of a form. What has no meaning any more is left out.
    fn state(self) -> Self::State;

    /// The state of a file that an earlier version of the program wrote; `None`: it is no such
    /// file. The next [`StateFile::save`] writes the present form.
    fn state_of_earlier(_file: &Path) -> Option<Self::State> {
        None
    }
}

/// A file with state that outlives the process.
///
/// # Locks
/// One, held while the file is written: of two who save at the same time, the later one writes
/// what is newest.
#[derive(Debug)]
pub struct StateFile<F> {
    path: PathBuf,
    /// Of the file as it is on disk; `None`: it has to be written.
    written: Mutex<Option<Checksum>>,
    form: std::marker::PhantomData<fn() -> F>,
}

impl<F: Form> StateFile<F> {
    /// The one of this directory. Touches nothing.
    #[must_use]
    pub fn of_directory(dir: &Path) -> Self {
        Self {
            path: dir.join(F::FILE),
            written: Mutex::default(),
            form: std::marker::PhantomData,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state; the default when there is no file, or one that cannot be read, which
    /// [`state_file::load`] puts into quarantine.
    ///
    /// # Errors
    /// The system's, when a file is there and cannot be opened or renamed.
    pub fn load(&self) -> io::Result<F::State> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = F::state_of_earlier(&self.path) {
            *written = None;
            return Ok(state);
        }
        let form: Option<F> = state_file::load(&self.path, F::VERSION, F::LOSS)?;
        // No file says the same as one of the default state: neither has to be written.
        let form = form.unwrap_or_else(|| F::of(&F::State::default()));
        let (_, checksum) = state_file::encode(&form, F::VERSION)?;
        *written = Some(checksum);
        Ok(form.state())
    }

    /// Writes what `current` returns, unless that is what the file says. Blocks on the disk.
    ///
    /// # Errors
    /// The system's; the old file is intact then, and the next call tries again.
    pub fn save(&self, current: impl FnOnce() -> F::State) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, checksum) = state_file::encode(&F::of(&current()), F::VERSION)?;
        if *written == Some(checksum) {
            return Ok(());
        }
        // It is not known which of the two is on disk where this fails.
        *written = None;
        replace(&self.path, &bytes)?;
        *written = Some(checksum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Saved(Vec<(u32, String)>);

    impl Form for Saved {
        type State = Vec<String>;
        const FILE: &'static str = "rows.dat";
        const VERSION: u32 = 2;
        const LOSS: &'static str = "rows are counted from the beginning";

        fn of(state: &Vec<String>) -> Self {
            Self((0..).zip(state.iter().cloned()).collect())
        }

        fn state(self) -> Vec<String> {
            self.0.into_iter().map(|(_, row)| row).collect()
        }

        fn state_of_earlier(file: &Path) -> Option<Vec<String>> {
            state_file::read(file, 1).ok()
        }
    }

    fn rows(rows: &[&str]) -> Vec<String> {
        rows.iter().map(|row| (*row).to_owned()).collect()
    }

    #[test]
    fn what_is_on_disk_already_is_not_written_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<Saved>::of_directory(dir.path());
        assert_eq!(file.load().expect("no file is no error"), rows(&[]));
        file.save(|| rows(&[])).expect("writable");
        assert!(!file.path().exists(), "there is nothing to say");
        file.save(|| rows(&["one"])).expect("writable");
        fs::remove_file(file.path()).expect("it was written");
        file.save(|| rows(&["one"])).expect("writable");
        assert!(!file.path().exists(), "it is taken for written");
        file.save(|| rows(&["two"])).expect("writable");

        let again = StateFile::<Saved>::of_directory(dir.path());
        assert_eq!(again.load().expect("readable"), rows(&["two"]));
        fs::remove_file(file.path()).expect("it was written");
        again.save(|| rows(&["two"])).expect("writable");
        assert!(!file.path().exists(), "what was loaded is on disk");
        again.save(|| rows(&[])).expect("writable");
        assert!(file.path().exists(), "nothing is news, too");
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_also_where_it_is_what_was_there_before() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<Saved>::of_directory(dir.path());
        file.save(|| rows(&["one"])).expect("writable");
        let taken = dir.path().join("rows.dat.new");
        fs::create_dir(&taken).expect("free");
        file.save(|| rows(&["two"])).expect_err("its name is taken");
        fs::remove_dir(&taken).expect("empty");
        fs::remove_file(file.path()).expect("it was written");
        file.save(|| rows(&["one"])).expect("writable");
        assert!(file.path().exists());
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read_and_the_next_save_writes_the_present_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<Saved>::of_directory(dir.path());
        state_file::save(file.path(), 1, &rows(&["old"])).expect("writable");
        let state = file.load().expect("readable");
        assert_eq!(state, rows(&["old"]));
        file.save(|| state.clone()).expect("writable");
        let Saved(saved) = state_file::read(file.path(), 2).expect("the present version");
        assert_eq!(saved, [(0, "old".to_owned())]);
    }

    #[test]
    fn a_file_of_a_later_version_is_put_into_quarantine_and_the_state_begins_anew() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<Saved>::of_directory(dir.path());
        state_file::save(file.path(), 3, &rows(&["new"])).expect("writable");
        assert_eq!(file.load().expect("no system error"), rows(&[]));
        assert!(dir.path().join("rows.dat.damaged-1").exists());
        file.save(|| rows(&["mine"])).expect("writable");
        assert_eq!(file.load().expect("readable"), rows(&["mine"]));
    }
}
