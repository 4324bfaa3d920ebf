//! Sources of services, each a task that sends [`SourceUpdate`]s into one channel.
//!
//! A source never decides what is in force: it says what it sees, the catalog of the control room
//! does the rest. One that fails says [`Update::Stale`], keeps trying, and ends with a fresh
//! [`Update::Reset`].

#![forbid(unsafe_code)]

pub mod docker;
pub mod file;

pub use plimsoll_model::{Entry, EntryKey, Item, Precedence, SourceId, SourceUpdate, Update};
