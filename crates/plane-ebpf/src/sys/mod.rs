//! Everything that talks to the kernel: bpf(2) and rtnetlink, safe to use.
//!
//! - [`Object`] is a compiled file of programs; [`Map`] and [`Program`] are what it becomes in the
//!   kernel. Both live as long as somebody holds them: this process by a file descriptor, the
//!   kernel by a program that is attached.
//! - [`hooks`] lists, attaches, replaces and detaches programs of an interface.
//! - [`net`] reads and changes links, addresses, neighbours and routes.
//! - [`host`] tells whether kernel and privileges suffice; [`WriterLock`] keeps two writers of one
//!   namespace apart.
//!
//! Indexes of interfaces mean those of the network namespace that the calling thread is in.

mod bpf;
mod btf;
mod cookie;
mod entries;
mod error;
pub mod hooks;
pub mod host;
mod lock;
mod map;
mod memory;
pub mod net;
mod netlink;
mod object;
mod program;
mod test_run;

pub use btf::{Place, Shape};
pub use cookie::netns_cookie;
pub use error::Error;
pub use lock::WriterLock;
pub use map::{Map, MapInfo, MapKind, MapSpec};
pub use memory::Memory;
pub use netlink::Netlink;
pub use object::{Globals, Object};
pub use program::{Program, ProgramInfo, ProgramKind};
pub use test_run::{MeanRun, TestContext, TestRun};

/// Programs whose name in the kernel begins so are ours.
pub const PREFIX: &str = "plimsoll";

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
