//! The packet plane: programs in the kernel that forward at layer 4.
//!
//! What they hold lives with the network namespace, not with the process: programs are attached
//! without links and without pins, and the maps of a process that is gone are found again through
//! the programs that are attached (see [`sys::hooks`]).

mod adopt;
mod books;
mod check;
mod compile;
mod hash;
mod interfaces;
pub mod kernel;
pub mod layout;
pub mod node;
mod notes;
mod on_demand;
mod path;
mod plane;
mod reasons;
pub mod sys;
mod tell;
mod verify;
mod write;

pub use interfaces::Interfaces;
pub use kernel::{Sizes, TunnelSources};
pub use on_demand::OnDemand;
pub use path::Path;
pub use plane::{EbpfPlane, Options};
