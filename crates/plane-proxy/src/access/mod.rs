//! The access log: a line for each request (HTTP), connection (TCP) or session (UDP) when it has
//! ended.
//!
//! A worker notes in a [`Record`] what it learns of a request, and formats it at the end into a
//! buffer of its own. Whole buffers go to a thread that writes, through a queue of bounded length.
//! What does not fit is dropped and counted: no request ever waits for a disk or a pipe.

mod civil;
mod entry;
mod escape;
mod format;
mod record;
mod sink;
mod writer;

pub(crate) use entry::{End, Entry, Load};
pub(crate) use format::line;
pub(crate) use record::Record;
pub(crate) use writer::Journal;
pub use writer::{AccessLog, AccessOptions};
