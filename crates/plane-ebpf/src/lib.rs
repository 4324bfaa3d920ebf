//! The packet plane: programs in the kernel that forward at layer 4.
//!
//! What they hold lives with the network namespace, not with the process: programs are attached
//! without links and without pins, and the maps of a process that is gone are found again through
//! the programs that are attached (see [`sys::hooks`]).

pub mod sys;
