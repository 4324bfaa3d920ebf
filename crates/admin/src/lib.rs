//! The admin API over a Unix socket, and the metrics.
