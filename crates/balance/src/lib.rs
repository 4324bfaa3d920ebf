//! Scheduling algorithms and their tables, pure.
