//! A socket that speaks as the one of HAProxy 2.6 does ("Unix Socket commands" in its management
//! guide), for the tools that read it: `docs/haproxy-stats.md`.
//!
//! A line goes through [`read_line`], what it asks for through control, and comes back as text:
//! `csv` for `show stat`, `lists` for the rest. [`Book`] gives what is shown its names and numbers.

mod book;
mod csv;
mod desk;
mod instead;
mod line;
mod lists;
mod server;

pub use book::Book;
pub use csv::{COLUMNS, render as render_csv};
pub use line::{Filter, Hidden, Request, Server, Standing, Weight, read_line};
pub use server::serve_stats;
