//! Links the kernel so that its random number generator is seeded when it is
//! first used, not before `main`; see `src/seeding.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--wrap=_Z10RandomInitv");
}
