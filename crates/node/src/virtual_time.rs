//! Real actors on virtual time, for tests.

use std::future::Future;

use actix::System;

/// Runs `test` inside an actix system whose clock moves only when nothing can
/// run: a day of timers passes in milliseconds, always in the same order.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime for a test")
    });
    system.block_on(test)
}
