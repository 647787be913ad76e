//! `chatia`: the local platform.

fn main() {}
