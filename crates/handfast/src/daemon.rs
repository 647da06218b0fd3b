//! Finds the node's program, `handfastd`, and executes it in place of this one.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use handfast_cli::FRONT_VERSION;
use rustix::fs::{Access, access};

/// The subcommand that executes it.
pub(crate) const RUN: &str = "run";
/// The file name of the program.
const PROGRAM: &str = "handfastd";

/// Replaces this process by the node: process id, descriptors, parent and exit code stay, and the
/// arguments after `run` are passed on. Returns only an error.
pub(crate) fn exec() -> String {
    let mut command = match command() {
        Ok(command) => command,
        Err(line) => return line,
    };
    let error = command.args(env::args_os().skip(2)).exec();
    let program = command.get_program().display();
    format!("{program} cannot be run: {error}; reinstall it, as `make install` does")
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
                "{} cannot be executed by this user: `chmod +x` it, or reinstall it, as \
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

/// The directory of this program, links resolved.
fn own_directory() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    // The path of a program that was replaced while it runs is lost, but its directory is not.
    let own = own.canonicalize().unwrap_or(own);
    own.parent().map(Path::to_owned)
}

/// This program in each directory that has it, executable or not. Relative directories are skipped,
/// because they depend on the working directory.
fn programs(directories: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    directories
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(PROGRAM))
        .filter(|path| path.is_file())
        .collect()
}
