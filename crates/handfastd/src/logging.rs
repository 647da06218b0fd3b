//! The log: to standard error, and to a file once the data directory is locked.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use handfast_node::files::check_not_special;
use handfast_node::text::without_error_numbers;
use handfast_rpc::LogControl;
use indicatif::ProgressBar;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{DefaultVisitor, FormatFields, Writer};

/// A log file longer than this is renamed to `handfast.log.old` at the next start, bytes.
const ROTATE_ABOVE: u64 = 64 * 1024 * 1024;

/// The targets of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Targets>);

#[derive(Debug, Default)]
struct Targets {
    file: OnceLock<(PathBuf, Mutex<File>)>,
    filter: OnceLock<Filter>,
    /// The progress bar, hidden while a line is printed.
    bar: Mutex<Option<ProgressBar>>,
}

/// The filter of log lines.
struct Filter {
    /// The directives at the start.
    at_start: String,
    replace: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.at_start).finish()
    }
}

impl Log {
    /// Starts logging to standard error. `filter` has been checked.
    pub(crate) fn start(filter: &str) -> Self {
        let log = Self::default();
        // Libraries log little unless the filter says otherwise.
        let filter = format!("mio=warn,fjall=error,lsm_tree=error,{filter}");
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&filter))
            .with_ansi(false)
            .fmt_fields(Plain)
            .with_writer(log.clone())
            .with_filter_reloading();
        let handle = subscriber.reload_handle();
        let replace = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        subscriber.init();
        let filter = Filter {
            at_start: filter,
            replace: Box::new(replace),
        };
        log.0.filter.set(filter).expect("the log is started once");
        std::panic::set_hook(Box::new(log_panic));
        log
    }

    /// Logs to `path` too, appending.
    pub(crate) fn add_file(&self, path: &Path) -> io::Result<()> {
        // Opening a pipe would wait for its reader.
        check_not_special(path)?;
        if fs::metadata(path).is_ok_and(|found| found.len() > ROTATE_ABOVE) {
            fs::rename(path, path.with_extension("log.old"))?;
        }
        let file = open(path)?;
        self.0
            .file
            .set((path.to_owned(), Mutex::new(file)))
            .expect("there is one log file per process");
        Ok(())
    }

    /// Reopens the log file by its name, after a program that rotates logs has renamed it. Lines
    /// go to one of the two files, never to none; if the new one cannot be opened, to the old
    /// one.
    ///
    /// # Errors
    /// Its path and the system's error.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        let Some((path, file)) = self.0.file.get() else {
            return Ok(());
        };
        let new = check_not_special(path)
            .map_err(|found| found.to_string())
            .and_then(|()| open(path).map_err(|error| error.to_string()))
            .map_err(|why| format!("{}: {why}", path.display()))?;
        *file.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Sets the progress bar around which lines are printed; `None`: no bar.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.0.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    /// A full disk or a closed terminal must not end the node: failures are dropped.
    fn write(&self, line: &[u8]) {
        if let Some((_, file)) = self.0.file.get() {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(line);
        }
        let print = || {
            let _ = io::stderr().lock().write_all(line);
        };
        match &*self.0.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl LogControl for Log {
    fn file(&self) -> Option<PathBuf> {
        self.0.file.get().map(|(path, _)| path.clone())
    }

    fn adjust(&self, directives: &[String]) -> Result<(), String> {
        let filter = self.0.filter.get().ok_or("it has not started")?;
        let mut wanted = filter.at_start.clone();
        for directive in directives {
            wanted.push(',');
            wanted.push_str(directive);
        }
        let wanted = EnvFilter::try_new(wanted).map_err(|error| error.to_string())?;
        (filter.replace)(wanted)
    }
}

/// Opens for appending, so that logging continues at the new end of a file truncated by
/// `copytruncate`; readable by this user alone, since log lines contain addresses.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

/// Logs a panic to the log file too, where it will be searched for.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, "{info}\n{backtrace}"),
        _ => tracing::error!(thread, "{info}"),
    }
}

/// Prints text fields without the quotes of a Rust string.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl<'w> FormatFields<'w> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = PlainVisitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct PlainVisitor<'w>(DefaultVisitor<'w>);

impl Visit for PlainVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0
            .record_debug(field, &format_args!("{}", OneLine(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.record_debug(field, value);
    }
}

/// Text whose control characters are escaped: an event is one line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

/// One event, collected and written whole.
pub(crate) struct Line {
    log: Log,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            log: self.clone(),
            text: Vec::new(),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let text = String::from_utf8_lossy(&self.text);
            self.log.write(without_error_numbers(&text).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_has_no_quotes_around_text_and_no_number_of_an_error() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("handfast.log");
        let log = Log::default();
        log.add_file(&path).expect("it can be written");
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(Plain)
            .with_writer(log)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::from_raw_os_error(104);
            tracing::info!(rate = "0 H/s", forged = "a\nb", "cannot read: {error}");
        });
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains("rate=0 H/s forged=a\\nb"), "{text}");
        assert!(
            text.contains("cannot read: Connection reset by peer"),
            "{text}"
        );
        assert!(!text.contains("os error"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
