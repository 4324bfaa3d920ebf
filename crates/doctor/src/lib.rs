//! The doctor: looks at a director, at a node, or at the host of containers that are nodes, and says what
//! keeps packets from being forwarded, with the command that mends it. It changes nothing.
//!
//! [`gather`] reads what there is into [`Facts`], plain data. [`CHECKS`] is the list of all that is
//! looked at; each check is a pure function from facts to [`Finding`]s.

mod checks;
mod facts;
mod finding;
pub mod firewall;
pub mod gather;

pub use checks::{CHECKS, Check};
pub use facts::{
    Backend, Carried, Director, Facts, Forward, Guest, Host, NodeRole, Source, Space, Trouble,
};
pub use finding::{Finding, Level};

/// All findings, in the order of the checks.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let judged = CHECKS.iter().flat_map(|check| {
        let found = (check.judge)(facts);
        found.into_iter().map(|finding| Finding {
            check: check.id,
            ..finding
        })
    });
    judged.collect()
}
