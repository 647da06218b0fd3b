//! What a program prints for its user.

use std::io::Write;

use handfast_proto::text::without_error_numbers;
use rustix::fs::Mode;

/// Prints on standard error what went wrong.
pub fn print_error(line: &str) {
    print_note(&format!("handfast: {}", without_error_numbers(line)));
}

/// Prints a line to standard error. A terminal that is gone must not end the program, as
/// `eprintln!` does.
pub fn print_note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints to standard output. Whoever reads there may stop reading (`| head`).
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What this process creates from now on is for this user alone, files 0600 and directories
/// 0700, whatever it was started with: blocks tell nothing, but the cookie, the log and the
/// peers do.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
