//! Containers of a Docker Engine.
//!
//! What the engine says goes through these rooms, all of them pure but for the first:
//!
//! - [`wire`] is the JSON that is read, [`view`] what is known around a container;
//! - [`labels`] and [`virtual_host`] read what a container says, and [`entries`](entries::entries)
//!   makes its entries of it: its services and routes, or why it has none.

pub mod entries;
pub mod labels;
mod network;
mod port;
mod share;
pub mod view;
pub mod virtual_host;
pub mod wire;
