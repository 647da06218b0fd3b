//! The choice of the kernel.

use std::ops::Range;

use crate::job::Job;
use crate::portable;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512, sha_ni};

/// A kernel, whether this processor has its instructions or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    ShaNi,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    /// Fastest first.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::ShaNi,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        Self::Portable,
    ];

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Portable => true,
        }
    }
}

/// A kernel whose instructions this processor has.
///
/// | name | at a time | cycles per hash | of its floor |
/// |---|---|---|---|
/// | `avx512` | 16 | 112 | 80 % |
/// | `sha-ni` | 4 | 114 | 63 % |
/// | `avx2` | 8 | 232 | 78 % |
/// | `portable` | 1 | 235 | |
///
/// Measured on one core of a Zen 4 (32.6, 32.2, 15.7, 15.6 million hashes a second at
/// 3.68 GHz), where two calls of `compress256` for one nonce after the other take 328
/// cycles. `portable` is `sha2`'s code, which uses the SHA instructions there; without them
/// it is several times slower. `bench --bench mining` measures it, and explains the floors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine(Kernel);

impl Engine {
    /// The fastest one that this processor has, by measurements on processors of its kind.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// All engines that this processor has, fastest first; at least `portable`.
    pub fn available() -> Vec<Self> {
        let kernels = Kernel::ALL.iter().copied();
        let available = kernels.filter(|kernel| kernel.is_available());
        available.map(Self).collect()
    }

    /// Its name: `avx512`, `sha-ni`, `avx2` or `portable`.
    pub fn name(&self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kernel::ShaNi => "sha-ni",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }

    /// The first nonce in the range with which the header's double SHA-256 is at most the
    /// target. The nonce in the header (its last four bytes) is ignored.
    ///
    /// The target is written as a hash is, its lowest byte first. A million nonces take
    /// 30 ms to 200 ms; a caller that must stop earlier passes a shorter range.
    ///
    /// # Panics
    /// When the range reaches beyond 2^32, the number of all nonces.
    #[allow(unsafe_code)]
    pub fn search(&self, header: &[u8; 80], target: &[u8; 32], nonces: Range<u64>) -> Option<u32> {
        assert!(
            nonces.end <= 1 << 32,
            "a nonce has 32 bits, and {nonces:?} was asked for"
        );
        let job = Job::new(header, target);
        match self.0 {
            // SAFETY, of all of these: the functions are safe except for the instructions that
            // they are compiled to. Only `available` makes an engine, and only for a kernel
            // whose instructions this processor has.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::search(&job, nonces) },
            #[cfg(target_arch = "x86_64")]
            Kernel::ShaNi => unsafe { sha_ni::search(&job, nonces) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::search(&job, nonces) },
            Kernel::Portable => portable::search(&job, nonces),
        }
    }
}
