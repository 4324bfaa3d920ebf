//! Containers of a Docker Engine.
//!
//! What the engine says goes through these rooms, all of them pure but for the first:
//!
//! - [`wire`] is the JSON that is read, [`view`] what is known around a container;
//! - [`entries`](entries::entries) makes the entries of one container: its services and routes, or
//!   why it has none.

pub mod entries;
pub mod view;
pub mod wire;
