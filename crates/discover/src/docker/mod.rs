//! Containers of a Docker Engine.
//!
//! What the engine says goes through these rooms, all of them pure but for the first:
//!
//! - [`host`] says where the engine is, [`connect`] and [`client`] ask it, [`events`] listens to
//!   it; [`error`] says why that does not work;
//! - [`source`] is the loop that drives them all, [`watch`] knows what is to be asked and said
//!   next;
//! - [`whereami`] finds our own container, [`standing`] says what a container does;
//! - [`wire`] is the JSON that [`read`] reads, [`view`] what is known around a container;
//! - [`labels`] and [`virtual_host`] read what a container says, and [`entries`](entries::entries)
//!   makes its entries of it: its services and routes, or why it has none;
//! - [`links`] reads what legacy links left in our own environment.

pub mod client;
pub mod connect;
pub mod entries;
pub mod error;
pub mod events;
pub mod host;
mod known;
pub mod labels;
pub mod links;
mod network;
mod port;
mod print;
pub mod read;
mod sent;
mod share;
pub mod source;
pub mod standing;
mod time;
mod tls;
pub mod view;
pub mod virtual_host;
pub mod watch;
pub mod whereami;
pub mod wire;
