//! The program that is the node, `handfastd`: where it is, and how it takes this one's place.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use handfast_cli::FRONT_VERSION;
use rustix::fs::{Access, access};

/// The command that becomes it.
pub(crate) const RUN: &str = "run";
/// Its name.
const PROGRAM: &str = "handfastd";

/// Becomes the node: it has the process, and so the number, the descriptors, the parent and the
/// exit code of this one, and the arguments behind `run`. Returns only why it could not.
pub(crate) fn become_it() -> String {
    let mut command = match command() {
        Ok(command) => command,
        Err(line) => return line,
    };
    let error = command.args(env::args_os().skip(2)).exec();
    let program = command.get_program().display();
    format!("{program} cannot be run: {error}; install it anew, as `make install` does")
}

/// A command that starts the node, without arguments.
pub(crate) fn command() -> Result<Command, String> {
    let beside = own_directory();
    let on_path = env::var_os("PATH").unwrap_or_default();
    let directories = beside.clone().into_iter().chain(env::split_paths(&on_path));
    let found = programs(directories);
    let can_run = |path: &&PathBuf| access(*path, Access::EXEC_OK).is_ok();
    let Some(program) = found.iter().find(can_run) else {
        if let Some(program) = found.first() {
            return Err(format!(
                "{} cannot be executed by this user: `chmod +x` it, or install it anew, as \
                 `make install` does",
                program.display()
            ));
        }
        let beside = beside.map_or_else(String::new, |dir| format!("{}, nor in ", dir.display()));
        return Err(format!(
            "the program {PROGRAM}, which is the node, is not in {beside}a directory of $PATH; \
             `make install` puts it there, and `cargo build --release --workspace` builds it \
             beside `handfast`"
        ));
    };
    let mut command = Command::new(program);
    command.env(FRONT_VERSION, env!("CARGO_PKG_VERSION"));
    Ok(command)
}

/// The directory of this program, whatever link it was started by.
fn own_directory() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    // A program that was replaced while it runs has no path any more, but its directory has.
    let own = own.canonicalize().unwrap_or(own);
    own.parent().map(Path::to_owned)
}

/// The program in each of these directories that has it, whether this user may execute it or not.
/// Not in those that are named relative to where the user is, and so are another each time.
fn programs(directories: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    directories
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(PROGRAM))
        .filter(|path| path.is_file())
        .collect()
}
