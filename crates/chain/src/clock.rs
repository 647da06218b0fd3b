//! The one clock: what time it is for the consensus engine, and for the rest of the node.
//!
//! On regtest it can be set ([`set`]), and then stands still, as with Bitcoin Core's
//! `setmocktime`. It is the engine's own clock that is set: a global of the C++ library, so
//! that all nodes of one process share it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds at which the clock stands; 0: it goes. A static, as the engine's clock is one:
/// given as a value, two nodes of a process could believe in two times, and only one of them would
/// be that by which their blocks are judged.
static STANDS_AT: AtomicU32 = AtomicU32::new(0);

/// Unix seconds now. The system's clock, which may jump, unless another time was [`set`].
#[must_use]
pub fn unix() -> u32 {
    match STANDS_AT.load(Ordering::SeqCst) {
        0 => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let seconds = since.map_or(0, |since| since.as_secs());
            u32::try_from(seconds).unwrap_or(u32::MAX)
        }
        stands_at => stands_at,
    }
}

/// Sets the clock to `seconds`, Unix time, where it stands until it is set again; 0 gives it
/// back to the system. For regtest: blocks are judged by it.
pub fn set(seconds: u32) {
    // The engine first: its rule is the one that a block can break.
    engine::set_mock_time(i64::from(seconds));
    STANDS_AT.store(seconds, Ordering::SeqCst);
}

#[allow(unsafe_code)]
mod engine {
    // SAFETY: `void SetMockTime(int64_t)` of Bitcoin Core's `util/time.h`, by its name in the
    // Itanium C++ ABI. It stores to an atomic; it asserts that the number is not negative,
    // which no `u32` is. `int64_t` is `long` on 64-bit Linux, `long long` on macOS.
    unsafe extern "C" {
        #[cfg_attr(target_os = "linux", link_name = "_Z11SetMockTimel")]
        #[cfg_attr(target_os = "macos", link_name = "_Z11SetMockTimex")]
        pub(super) safe fn set_mock_time(seconds: i64);
    }
}
