//! Control: from what sources say to what planes hold.
//!
//! Pure: no I/O of its own, time and seeds are passed in; planes are reached through their seam.
//!
//! - [`Catalog`]: where sources meet; what is wrong is put aside with its reason.
//! - [`Overlay`]: what admins and verdicts lay over the catalog's services.
//! - [`Reconciler`]: brings a plane to the desired state, and audits it.
//! - [`Control`]: the three together, driven by the daemon's loop.
//! - [`status`]: what can be looked at from outside.
#![forbid(unsafe_code)]

mod assign;
mod catalog;
mod command;
mod control;
mod lane;
mod overlay;
mod quarantine;
mod reconcile;
mod related;
mod report;
pub mod status;
mod vips;

pub use assign::{Available, assign};
pub use catalog::{Catalog, Changes, Freshness, Refused, Source, Vet};
pub use command::{Command, CommandError, Halt};
pub use control::{Control, PlaneStep, Settings, Step};
pub use overlay::Overlay;
pub use plimsoll_health::Verdict;
pub use quarantine::{Aside, Quarantine};
pub use reconcile::{Audit, Changed, Failed, Hold, Reconciler};
