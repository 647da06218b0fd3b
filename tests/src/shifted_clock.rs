//! A node whose clock is set back, or forward, while the machine's is not.
//!
//! A library of a few lines, compiled on the spot and loaded before the node's others,
//! answers for the system when the wall clock is asked for. The monotonic clock is left
//! alone, as it is when a person sets the time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *path = getenv("HANDFAST_TEST_CLOCK");
    FILE *file = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (result == 0 && id == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"#;

/// A clock that the test sets.
#[derive(Debug)]
pub struct ShiftedClock {
    dir: TempDir,
}

impl ShiftedClock {
    /// A clock that goes right. `None`, with a word about it, where there is no C compiler.
    ///
    /// # Panics
    /// If the compiler that is there fails.
    pub fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = Self { dir };
        let source = clock.dir.path().join("clock.c");
        fs::write(&source, SOURCE).expect("writable");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler.arg(clock.library()).arg(source);
        match compiler.status() {
            Ok(status) => assert!(status.success(), "cc: {status}"),
            Err(error) => {
                crate::skipped(&format!("no C compiler ({error})"));
                return None;
            }
        }
        clock.set(0);
        Some(clock)
    }

    /// So many seconds ahead of the machine's clock from now on; below 0: behind it.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set(&self, seconds: i64) {
        let new = self.dir.path().join("shift.new");
        fs::write(&new, seconds.to_string()).expect("writable");
        fs::rename(new, self.shift()).expect("writable");
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("clock.so")
    }

    fn shift(&self) -> PathBuf {
        self.dir.path().join("shift")
    }

    /// The variables of a process that lives by this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.library()),
            ("HANDFAST_TEST_CLOCK", self.shift()),
        ]
    }
}
