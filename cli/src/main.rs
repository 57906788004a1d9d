//! The `cylinder` command.
fn main() {}
