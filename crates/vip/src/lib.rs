//! VIPs: addresses that services bring along.
//!
//! They are added to their interfaces, announced to the neighbours, added again when somebody removes
//! them, and taken away when no service has them any more or the process ends in order, but for those that
//! were there before.
//!
//! - `machine` decides, and is pure: what is wanted and found, and what time it is, are arguments.
//! - `frames` has the bytes of announcements; pure, too.
//! - `claims` lets processes in one network namespace know of each other.
//! - `watch` tells of links and addresses that change.
//! - [`Vips`] does it.

mod claims;
mod frames;
mod machine;
mod owner;
mod watch;

pub use frames::announcements;
pub use machine::MARK;
pub use owner::Vips;
