//! Sources of services: each a stream of updates.
