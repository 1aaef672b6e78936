//! Tells the program when it was built: a wall clock that shows less was never set (OFF-03).
//!
//! `SOURCE_DATE_EPOCH`, seconds since 1970, stands for the time of the build where builds must be reproducible.

/// Seconds since 1970 of the build.
#[expect(clippy::disallowed_methods, reason = "a build has no clock to be handed")]
fn built() -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    given.unwrap_or_else(now)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=SF_BUILT_S={}", built());
}
