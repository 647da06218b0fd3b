//! Output to the user.

use std::io::Write;

use handfast_proto::text::without_error_numbers;
use rustix::fs::Mode;

/// Prints an error to standard error.
pub fn print_error(line: &str) {
    print_note(&format!("handfast: {}", without_error_numbers(line)));
}

/// Prints a line to standard error. A closed terminal must not end the program, as `eprintln!`
/// would.
pub fn print_note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints to standard output. The reader may have closed it (`| head`).
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// From now on this process creates files with mode 0600 and directories with 0700, whatever the
/// umask was: the cookie, the log and the peer addresses are private.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
