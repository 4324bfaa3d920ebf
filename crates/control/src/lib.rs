//! Catalog and reconcile: from sources to plans.
