//! Brings a plane to the desired state.
//!
//! The shadow is what the plane is known to hold: what was read from it, and the steps it took
//! since. A change costs its own steps only; an audit reads the plane back, so that neither a
//! missed step nor a foreign hand leaves it wrong for long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use plimsoll_model::{Desired, Name, Op, Origin, Plan, Subject};
use plimsoll_plane::{ItemResult, Plane, PlaneError};

/// Whether entries of an origin stay in a plane though they are not desired, because their source
/// has not yet said what it has. So a restart takes away nothing that is only not known yet.
pub type Hold<'a> = &'a dyn Fn(&Origin) -> bool;

/// What of the desired state is to be looked at because it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// All of it.
    All,
    /// These services, and routes if so.
    Some {
        /// The services.
        services: BTreeSet<Name>,
        /// Whether routes changed.
        routes: bool,
    },
}

impl Default for Changed {
    /// Nothing.
    fn default() -> Self {
        Self::Some {
            services: BTreeSet::new(),
            routes: false,
        }
    }
}

impl Changed {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A service changed, too.
    pub fn service(&mut self, name: &Name) {
        if let Self::Some { services, .. } = self {
            services.insert(name.clone());
        }
    }

    /// Routes changed, too.
    pub fn routes(&mut self) {
        if let Self::Some { routes, .. } = self {
            *routes = true;
        }
    }

    /// The steps about these things.
    fn diff(&self, held: &Desired, desired: &Desired) -> Plan {
        match self {
            Self::All => held.diff(desired),
            Self::Some { services, routes } => held.diff_of(desired, services, *routes),
        }
    }

    /// What these steps are about.
    fn of(failures: &BTreeMap<Subject, Failed>) -> Self {
        let mut changed = Self::default();
        for subject in failures.keys() {
            match subject {
                Subject::Service(name) | Subject::Backend(name, _) => changed.service(name),
                Subject::Route(_) => changed.routes(),
            }
        }
        changed
    }
}

/// A step that failed. It is taken again at the next audit, and at once when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The step.
    pub op: Op,
    /// Why it failed.
    pub error: PlaneError,
    /// Since when it fails for this reason.
    pub since: Instant,
}

/// How an audit went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// What the plane did not hold as it was known to; empty at the first audit, when nothing was
    /// known yet.
    pub drift: Vec<Subject>,
    /// How the steps went that were taken.
    pub results: Vec<ItemResult>,
    /// Why the plane could not be read, if it could not.
    pub error: Option<PlaneError>,
}

/// Keeps one plane at the desired state.
#[derive(Clone, Debug, Default)]
pub struct Reconciler {
    /// What the plane holds; none until it was read once, and nothing is done to it until then.
    shadow: Option<Desired>,
    failures: BTreeMap<Subject, Failed>,
    read_error: Option<PlaneError>,
    audits: u64,
    repairs: u64,
    last_audit: Option<Instant>,
}

impl Reconciler {
    /// What the plane is known to hold; none if it was never read.
    pub fn shadow(&self) -> Option<&Desired> {
        self.shadow.as_ref()
    }

    /// The steps that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&Subject, &Failed)> {
        self.failures.iter()
    }

    /// How a step about this went wrong.
    pub fn failure(&self, subject: &Subject) -> Option<&Failed> {
        self.failures.get(subject)
    }

    /// What the plane holds is not known any more.
    pub(crate) fn forget(&mut self) {
        self.shadow = None;
    }

    /// Why the last audit could not read the plane, if it could not.
    pub fn read_error(&self) -> Option<&PlaneError> {
        self.read_error.as_ref()
    }

    /// How many audits read the plane.
    pub fn audits(&self) -> u64 {
        self.audits
    }

    /// The plane has mended something by itself.
    pub(crate) fn repaired(&mut self) {
        self.repairs += 1;
    }

    /// How many things audits found changed behind our back.
    pub fn repairs(&self) -> u64 {
        self.repairs
    }

    /// When the plane was last read.
    pub fn last_audit(&self) -> Option<Instant> {
        self.last_audit
    }

    /// Takes the steps from what the plane is known to hold to `desired`, as far as it is another than the last
    /// time, those that failed before left out. Nothing if the plane was never read. What `hold` holds is not
    /// taken away.
    pub fn reconcile(
        &mut self,
        now: Instant,
        plane: &mut dyn Plane,
        desired: &Desired,
        changed: &Changed,
        hold: Hold<'_>,
    ) -> Vec<ItemResult> {
        let Some(shadow) = &mut self.shadow else {
            return Vec::new();
        };
        let mut results = Vec::new();
        let mut plan = changed.diff(shadow, desired);
        let failures = &self.failures;
        let failed = |op: &Op| failures.get(&op.subject()).is_some_and(|f| f.op == *op);
        let held = |op: &Op| removed(shadow, op).is_some_and(hold);
        plan.ops.retain(|op| !failed(op) && !held(op));
        let freed = take(now, plane, &plan, shadow, &mut self.failures, &mut results);
        if freed && self.failures.values().any(is_listen) {
            // A service that has given up a listen may have been in the way of another.
            let mut again = Changed::of(&self.failures).diff(shadow, desired);
            let failures = &self.failures;
            again
                .ops
                .retain(|op| failures.get(&op.subject()).is_some_and(is_listen));
            let failures = &mut self.failures;
            take(now, plane, &again, shadow, failures, &mut results);
        }
        share(shadow, desired, &results);
        if !self.failures.is_empty() {
            let open = Changed::of(&self.failures).diff(shadow, desired).ops;
            let open: BTreeSet<Subject> = open.iter().map(Op::subject).collect();
            self.failures.retain(|subject, _| open.contains(subject));
        }
        results
    }

    /// Reads the plane and takes all steps from what it really holds to `desired`, those that
    /// failed before too. If it cannot be read, what was known is kept.
    pub fn audit(
        &mut self,
        now: Instant,
        plane: &mut dyn Plane,
        desired: &Desired,
        hold: Hold<'_>,
    ) -> Audit {
        let mut held = match plane.read() {
            Ok(held) => held,
            Err(error) => {
                self.read_error = Some(error.clone());
                return Audit {
                    results: self.reconcile(now, plane, desired, &Changed::All, hold),
                    error: Some(error),
                    ..Audit::default()
                };
            }
        };
        self.read_error = None;
        self.audits += 1;
        self.last_audit = Some(now);
        let known = self.shadow.take();
        let drift = known.map_or(Vec::new(), |known| held.diff(&known).ops);
        let drift: Vec<Subject> = drift.iter().map(Op::subject).collect();
        self.repairs += drift.len() as u64;
        share_all(&mut held, desired);
        self.shadow = Some(held);
        let before = std::mem::take(&mut self.failures);
        let results = self.reconcile(now, plane, desired, &Changed::All, hold);
        for (subject, failed) in &mut self.failures {
            if let Some(old) = before.get(subject).filter(|old| old.error == failed.error) {
                failed.since = old.since;
            }
        }
        Audit {
            drift,
            results,
            error: None,
        }
    }
}

/// The origin of what a step takes away, if it takes something away.
fn removed<'a>(held: &'a Desired, op: &Op) -> Option<&'a Origin> {
    match op {
        Op::RemoveService(name) => Some(&held.services.get(name)?.spec.origin),
        Op::RemoveBackend(name, addr) => Some(&held.services.get(name)?.backends.get(addr)?.origin),
        Op::RemoveRoute(name) => Some(&held.routes.get(name)?.origin),
        _ => None,
    }
}

fn is_listen(failed: &Failed) -> bool {
    matches!(failed.error, PlaneError::Listen { .. })
}

/// Takes the steps of a plan; whether one that may have freed a listen went well.
fn take(
    now: Instant,
    plane: &mut dyn Plane,
    plan: &Plan,
    shadow: &mut Desired,
    failures: &mut BTreeMap<Subject, Failed>,
    results: &mut Vec<ItemResult>,
) -> bool {
    if plan.is_empty() {
        return false;
    }
    let mut freed = false;
    let mut given = plane.apply(plan).into_iter();
    for op in &plan.ops {
        let subject = op.subject();
        let silent = || ItemResult {
            subject: subject.clone(),
            result: Err(PlaneError::Other(
                "the plane did not say how it went".into(),
            )),
        };
        let item = given.next().unwrap_or_else(silent);
        match &item.result {
            Ok(()) => {
                freed |= matches!(op, Op::SetSpec(_) | Op::RemoveService(_));
                // A step of a diff from the shadow fits the shadow.
                drop(shadow.apply(op));
                failures.remove(&subject);
            }
            Err(error) => {
                let same = failures.get(&subject).filter(|old| old.error == *error);
                let failed = Failed {
                    op: op.clone(),
                    error: error.clone(),
                    since: same.map_or(now, |old| old.since),
                };
                failures.insert(subject, failed);
            }
        }
        results.push(item);
    }
    freed
}

/// Lets the shadow share what is the same in the desired state, so that the next diff compares
/// pointers only.
fn share(shadow: &mut Desired, desired: &Desired, results: &[ItemResult]) {
    let mut last: Option<&Name> = None;
    for item in results {
        let (Subject::Service(name) | Subject::Backend(name, _)) = &item.subject else {
            continue;
        };
        if last.replace(name) != Some(name)
            && let (Some(held), Some(wanted)) =
                (shadow.services.get_mut(name), desired.services.get(name))
            && held == wanted
        {
            *held = wanted.clone();
        }
    }
}

fn share_all(held: &mut Desired, desired: &Desired) {
    for (name, service) in &mut held.services {
        if let Some(wanted) = desired.services.get(name)
            && !Arc::ptr_eq(service, wanted)
            && service == wanted
        {
            *service = wanted.clone();
        }
    }
    for (name, route) in &mut held.routes {
        if let Some(wanted) = desired.routes.get(name)
            && !Arc::ptr_eq(route, wanted)
            && route == wanted
        {
            *route = wanted.clone();
        }
    }
}
