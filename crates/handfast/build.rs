//! Takes the kernel's random number generator out of the start of the process;
//! see `src/seeding.rs`. The symbols are those of libstdc++ with the GNU linker's
//! `--wrap`, so this is done on Linux with glibc only; elsewhere nothing is
//! replaced, and the start is 100 ms slower.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(quick_seeding)");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") != "linux" || target("ENV") != "gnu" {
        return;
    }
    println!("cargo::rustc-cfg=quick_seeding");
    for symbol in ["_Z10RandomInitv", "_ZNSt6chrono3_V212steady_clock3nowEv"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap={symbol}");
    }
}
