//! One plane, and what it is to hold.

use std::time::{Duration, Instant};

use plimsoll_model::Desired;
use plimsoll_plane::{ItemResult, Plane, PlaneError};

use crate::control::PlaneStep;
use crate::{Changed, Hold, Reconciler};

/// A plane that could not be read yet is asked again after this.
const FIRST_READ: Duration = Duration::from_secs(1);

/// A plane and what it is to hold.
pub(crate) struct Lane {
    pub(crate) plane: Box<dyn Plane>,
    pub(crate) reconciler: Reconciler,
    pub(crate) desired: Desired,
    /// What of `desired` changed since the last reconcile.
    pub(crate) changed: Changed,
    pub(crate) next_audit: Option<Instant>,
}

impl Lane {
    /// Of a plane that has not been read yet.
    pub(crate) fn new(plane: Box<dyn Plane>) -> Self {
        Self {
            plane,
            reconciler: Reconciler::default(),
            desired: Desired::default(),
            changed: Changed::default(),
            next_audit: None,
        }
    }

    /// The plane begins anew: what it holds is to be read before anything is done to it.
    pub(crate) fn begin(&mut self) {
        self.reconciler.forget();
        self.next_audit = None;
    }

    /// Brings the plane to what is desired, and audits it if its time has come.
    pub(crate) fn step(&mut self, now: Instant, interval: Duration, hold: Hold<'_>) -> PlaneStep {
        let mut step = PlaneStep {
            plane: self.plane.name(),
            results: Vec::new(),
            drift: Vec::new(),
            error: None,
        };
        let mut due = self.next_audit.is_none_or(|at| at <= now);
        let changed = std::mem::take(&mut self.changed);
        if !changed.is_empty() && !due {
            let plane = &mut *self.plane;
            step.results = (self.reconciler).reconcile(now, plane, &self.desired, &changed, hold);
            // A step that does not fit: the plane does not hold what it was known to.
            let misfit = |i: &ItemResult| matches!(i.result, Err(PlaneError::Plan(_)));
            due = step.results.iter().any(misfit);
        }
        if due {
            let plane = &mut *self.plane;
            let audit = self.reconciler.audit(now, plane, &self.desired, hold);
            step.results.extend(audit.results);
            step.drift = audit.drift;
            step.error = audit.error;
            let known = self.reconciler.shadow().is_some();
            self.next_audit = Some(
                now + if known {
                    interval
                } else {
                    FIRST_READ.min(interval)
                },
            );
        }
        step
    }
}
