//! `plimsoll doctor`: each single thing is broken, named, and mended by the very command that is printed.

mod containers;
mod director;
mod node;
mod ward;
