//! What containers say, by labels and by their environment, and what is made of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod basics;
mod catalog;
mod faults;
mod keys;
mod keys_http;
mod keys_limits;
mod limits;
mod listens;
mod manual;
mod places;
mod properties;
mod virtual_host;
mod world;
