//! A node: a network namespace that is made fit to serve VIPs behind a director, and back.
//!
//! A director that forwards by direct routing or through a tunnel leaves the VIP as the destination. So
//! the node has the VIP on its loopback, says nothing of it on the link (else clients would come past the
//! director), and takes packets out of the tunnel by a program of ours (`bpf/node.c`). Where it is asked for
//! another one (`bpf/mss.c`) has servers announce smaller segments.
//!
//! What is to be done is worked out by pure functions: [`towards`] compares what is wanted with what was
//! [`Found`] and with the [`State`] that says what earlier runs changed, and gives [`Change`]s. They can be
//! done ([`Node`]), shown as shell commands ([`commands`]), or taken for what is missing.

mod apply;
mod clamp;
mod error;
mod find;
mod namespace;
mod plan;
mod program;
mod shell;
mod state;
mod store;
mod sysctl;
mod trouble;

pub use apply::{Done, Node};
pub use error::Error;
pub use namespace::Namespace;
pub use plan::{Change, Found, Planned, Target, towards};
pub use program::Counts;
pub use shell::commands;
pub use state::{Record, State, Vip};
pub use sysctl::Setting;
pub use trouble::{Trouble, troubles};

/// The interface that VIPs are on.
pub const LOOPBACK: &str = "lo";

/// The program that unwraps, by its name in the kernel.
pub const PROGRAM: &str = "plimsoll_node";

/// The program that lets TCP announce smaller segments.
pub const CLAMP: &str = "plimsoll_mss";

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
