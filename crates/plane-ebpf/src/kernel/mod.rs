//! What is in the kernel: programs and maps, made or found again, with types on the maps.

mod carry;
mod clock;
mod maps;
mod needed;
mod notes;
mod open;
mod reshape;
mod sizes;
mod tables;
mod takeover;
mod tunnels;

pub use clock::Clock;
pub use maps::Maps;
pub use notes::{Owner, Print};
pub use open::{Kernel, NAMES, Opened};
pub use sizes::Sizes;
pub use takeover::{Layout, Takeover};
pub use tunnels::TunnelSources;
