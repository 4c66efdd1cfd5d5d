//! The examples are files of this folder; run one with `cargo run -p cotton-examples --example NAME`.
