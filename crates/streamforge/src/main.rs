//! The one binary: every role of an industrial data gateway.

fn main() {}
