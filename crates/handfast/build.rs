//! Takes the kernel's random number generator out of the start of the process;
//! see `src/seeding.rs`. Where the linker finds no such symbols (another C++
//! library), nothing is replaced and the start is slower.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for symbol in ["_Z10RandomInitv", "_ZNSt6chrono3_V212steady_clock3nowEv"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap={symbol}");
    }
}
