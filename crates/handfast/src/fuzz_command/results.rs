//! The files of a run. Whether they can be written is checked before it, and a failure of one
//! does not affect the others.

use std::fs;
use std::path::{Path, PathBuf};

use handfast_fuzz::report::Report;
use handfast_fuzz::{replace, try_replace};

use super::options::Setup;

const PAGE: &str = "report.html";
const DOCUMENT: &str = "report.json";

/// Directories that were made for a report. Empty ones are removed again.
#[derive(Debug, Default)]
pub(super) struct ReportDirs {
    /// Parents before their children.
    made: Vec<PathBuf>,
}

impl ReportDirs {
    /// Checks that all files of a run can be written. Existing ones are an error, unless they are
    /// to be overwritten.
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

impl Drop for ReportDirs {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            // Fails for a directory that is not empty, as it should.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// What was written, and the errors of the rest.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) trace: bool,
    pub(super) report: bool,
    /// One line each.
    pub(super) errors: Vec<String>,
}

/// Writes all files that can be written.
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
        "{} exists already, from an earlier run: choose another path, or use --overwrite",
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
    fn unwritable_files_are_reported_before_the_run_and_nothing_is_left_behind() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name);
        let refused = |trace: Option<&Path>, report: Option<&Path>, part: &str| {
            let before = count(home.path());
            let error = ReportDirs::try_out(trace, report, true).expect_err("it cannot be written");
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
    fn directories_for_a_report_are_removed_only_if_it_was_not_written() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("a/b");
        drop(ReportDirs::try_out(None, Some(&dir), false).expect("writable"));
        assert_eq!(count(home.path()), 0);
        let places = ReportDirs::try_out(None, Some(&dir), false).expect("writable");
        fs::write(dir.join(PAGE), b"a report").expect("it was made");
        drop(places);
        assert_eq!(count(&dir), 1);
    }

    #[test]
    fn files_of_an_earlier_run_are_overwritten_only_on_request() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name);
        fs::create_dir(path("out")).expect("writable");
        for name in ["out/report.html", "out/report.json", "run.trace"] {
            fs::write(path(name), b"an earlier run").expect("writable");
            let (trace, report) = (path("run.trace"), path("out"));
            let places = |overwrite| ReportDirs::try_out(Some(&trace), Some(&report), overwrite);
            let error = places(false).expect_err("it is there");
            assert!(
                error.contains(name) && error.contains("--overwrite"),
                "{error}"
            );
            drop(places(true).expect("that was said"));
            let found = fs::read(path(name)).expect("nothing was written yet");
            assert_eq!(found, b"an earlier run");
            fs::remove_file(path(name)).expect("it is there");
        }
    }
}
