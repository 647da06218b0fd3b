//! The clock of the consensus engine and of the rest of the node.
//!
//! On regtest it can be set ([`set`]), and then does not advance, as with Bitcoin Core's
//! `setmocktime`. This sets the engine's mock time, a global of the C++ library, so all nodes
//! of one process share it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The mock time, Unix seconds; 0: none. A static, as the engine's clock is one: as a value, two
/// nodes of one process could have two times, of which the engine would use only one.
static STANDS_AT: AtomicU32 = AtomicU32::new(0);

/// The present time, Unix seconds: the mock time if one is [`set`], else the system's clock,
/// which may jump.
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

/// Sets the mock time to `seconds`, Unix time; 0 returns to the system's clock. For regtest:
/// the engine validates block times by it.
pub fn set(seconds: u32) {
    // The engine first: it validates block times.
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
