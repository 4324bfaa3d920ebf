//! Control over a fake plane, with virtual time.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests"
)]

mod checks;
mod convergence;
mod fragments;
mod order;
mod outlier;
mod overlay;
mod planes;
mod quarantine;
mod reconcile;
mod scale;
mod status;
mod vips;
mod world;
