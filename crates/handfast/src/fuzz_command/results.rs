//! Where the results of a run go. Whether they can is known before it, and what becomes of
//! one of them does not concern the others.

use std::fs;
use std::path::{Path, PathBuf};

use handfast_fuzz::report::Report;
use handfast_fuzz::{replace, try_replace};

use super::options::Setup;

const PAGE: &str = "report.html";
const DOCUMENT: &str = "report.json";

/// Directories that were made for a report. They go again if nothing came to be in them.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Each before what is in it.
    made: Vec<PathBuf>,
}

impl Places {
    /// Tries whether everything that is wanted of a run can be written. What is there of an
    /// earlier one is not, unless it is to be overwritten.
    pub(super) fn try_out(
        trace: Option<&Path>,
        report: Option<&Path>,
        overwrite: bool,
    ) -> Result<Self, String> {
        let mut places = Self::default();
        let try_out = |path: &Path| {
            try_replace(path).map_err(|error| cannot_write(path, &error))?;
            match path.is_file() && !overwrite {
                true => Err(is_there(path)),
                false => Ok(()),
            }
        };
        if let Some(trace) = trace {
            try_out(trace)?;
        }
        if let Some(dir) = report {
            places
                .make(dir)
                .map_err(|error| format!("cannot make the directory {}: {error}", dir.display()))?;
            for name in [PAGE, DOCUMENT] {
                try_out(&dir.join(name))?;
            }
        }
        Ok(places)
    }

    fn make(&mut self, dir: &Path) -> std::io::Result<()> {
        let missing = dir.ancestors().take_while(|one| {
            let is_named = !one.as_os_str().is_empty();
            is_named && !one.exists()
        });
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        missing.reverse();
        self.made = missing;
        fs::create_dir_all(dir)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            // Fails for one that is not empty, as it should.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// What was written, and why the rest was not.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) trace: bool,
    pub(super) report: bool,
    /// One line each.
    pub(super) errors: Vec<String>,
}

/// Writes whatever can be written.
pub(super) fn save(setup: &Setup, report: &Report<'_>) -> Saved {
    let mut saved = Saved::default();
    let mut done = |path: &Path, result: std::io::Result<()>| {
        let error = result.err().map(|error| cannot_write(path, &error));
        let is_written = error.is_none();
        saved.errors.extend(error);
        is_written
    };
    if let (Some(path), Some(trace)) = (&setup.trace, &report.outcome.trace) {
        saved.trace = done(path, trace.save(path));
    }
    if let Some(dir) = &setup.report {
        let (page, document) = (dir.join(PAGE), dir.join(DOCUMENT));
        saved.report = done(&page, replace(&page, report.html().as_bytes()));
        done(&document, replace(&document, report.json().as_bytes()));
    }
    saved
}

fn is_there(path: &Path) -> String {
    format!(
        "{} is there already, of an earlier run: name another place, or say --overwrite",
        path.display()
    )
}

fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).expect("a directory").count()
    }

    #[test]
    fn what_cannot_be_written_is_known_before_and_nothing_is_left_behind() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name);
        let refused = |trace: Option<&Path>, report: Option<&Path>, part: &str| {
            let before = count(home.path());
            let error = Places::try_out(trace, report, true).expect_err("it cannot be written");
            assert!(error.contains(part), "{error}");
            assert_eq!(count(home.path()), before, "{error}");
        };
        refused(Some(&path("nowhere/x.trace")), None, "nowhere/x.trace");
        refused(Some(home.path()), None, "cannot write");
        fs::write(path("file"), b"").expect("writable");
        refused(None, Some(&path("file/out")), "cannot make the directory");
        fs::create_dir_all(path("taken/report.json")).expect("writable");
        refused(None, Some(&path("taken")), "taken/report.json");
        // The report would be possible, and its directory is not left for nothing.
        refused(Some(&path("nowhere/x")), Some(&path("out")), "nowhere");
    }

    #[test]
    fn directories_for_a_report_go_again_without_one_and_stay_with_one() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("a/b");
        drop(Places::try_out(None, Some(&dir), false).expect("writable"));
        assert_eq!(count(home.path()), 0);
        let places = Places::try_out(None, Some(&dir), false).expect("writable");
        fs::write(dir.join(PAGE), b"a report").expect("it was made");
        drop(places);
        assert_eq!(count(&dir), 1);
    }

    #[test]
    fn what_is_left_of_an_earlier_run_is_overwritten_only_by_somebody_who_says_so() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name);
        fs::create_dir(path("out")).expect("writable");
        for name in ["out/report.html", "out/report.json", "run.trace"] {
            fs::write(path(name), b"an earlier run").expect("writable");
            let (trace, report) = (path("run.trace"), path("out"));
            let places = |overwrite| Places::try_out(Some(&trace), Some(&report), overwrite);
            let error = places(false).expect_err("it is there");
            assert!(
                error.contains(name) && error.contains("--overwrite"),
                "{error}"
            );
            drop(places(true).expect("that was said"));
            let kept = fs::read(path(name)).expect("nothing was written yet");
            assert_eq!(kept, b"an earlier run");
            fs::remove_file(path(name)).expect("it is there");
        }
    }
}
