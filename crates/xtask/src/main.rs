//! Project automation: gen, tidy.

fn main() {}
