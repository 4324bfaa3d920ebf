//! A socket that answers what a load balancer has to know of a Docker Engine, and nothing else.
//!
//! Whoever can write to the engine's own socket is root on its host, and whoever can read all of
//! it reads every file of every container. So the process that faces a network gets this one
//! instead. [`decide`] says which requests are passed on, [`redact`] what of an answer is: both
//! are lists of what is allowed, and what is not listed stays where it is. [`serve`] is the rest.
#![forbid(unsafe_code)]

mod allow;
mod events;
mod fields;
mod labels;
mod patient;
mod redact;
mod server;
mod shape;

pub use allow::{Allowed, Endpoint, Refused, decide};
pub use events::{Events, MAX_LINE};
pub use fields::{ENV, MAX_OUTPUT};
pub use labels::{LABELS, passes_label};
pub use redact::{NotExpected, redact};
pub use server::{Connection, Dial, PATIENCE, serve};
