//! The entries of one container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll_model::{Backend, BackendAddr, Name, Origin, Service, State, Status};

use super::labels;
use super::labels::value::Faults;
use super::network::{Target, locate};
use super::share::{MAX_ROUTES, Refused, Share};
use super::time::sortable;
use super::view::{Standing, View};
use super::virtual_host;
use super::wire::Inspect;
use crate::{Entry, EntryKey, Item};

/// What a container says about services and routes: empty if it says nothing to us.
///
/// Keys are `container CREATED ID`, and after it `service NAME`, `route NAME`, or what tells one
/// thing that is wrong from another; so they are ordered by age. A container that cannot be reached
/// has its services without a backend, and the reason beside them.
pub fn entries(container: &Inspect, standing: &Standing, view: &View<'_>) -> Vec<Entry> {
    if !labels::is_wanted(container) {
        return Vec::new();
    }
    let mut entries = Entries::new(container, view);
    let said = match labels::read(container, view.settings) {
        Ok(said) => said,
        Err(refused) => {
            entries.refuse(refused);
            return entries.all;
        }
    };
    if let Some(refused) = labels::mistyped::read(container) {
        entries.refuse(refused);
    }
    let shares = match said.shares.is_empty() {
        true => virtual_host::read(container, view.settings, &said.common),
        false => said.shares,
    };
    let mut unreached = Unreached::default();
    let one = shares.len() == 1;
    for share in shares {
        match share {
            Ok(share) => {
                let backend = entries.backend(&share, standing, view, container);
                let backend = backend.unwrap_or_else(|reason| {
                    unreached.add(reason, &share.spec.name);
                    None
                });
                entries.put(share, backend);
            }
            Err(refused) => entries.refuse(refused),
        }
    }
    if let Some(reason) = unreached.reason(one) {
        entries.refuse(Refused {
            key: String::new(),
            subject: format!("container {}", container.display_name()),
            reason,
        });
    }
    entries.all
}

/// The entries of a container as they come.
struct Entries {
    prefix: String,
    name: Arc<str>,
    origin: Origin,
    all: Vec<Entry>,
    /// Which service of the container has which route.
    routes: BTreeMap<Name, Name>,
}

impl Entries {
    fn new(container: &Inspect, view: &View<'_>) -> Self {
        let name = container.display_name();
        let source = view.settings.source.clone();
        Self {
            prefix: format!(
                "container {} {}",
                sortable(&container.created),
                container.short_id()
            ),
            name: name.into(),
            origin: Origin::new(source, format!("container {name}")),
            all: Vec::new(),
            routes: BTreeMap::new(),
        }
    }

    fn push(&mut self, key: &str, item: Item) {
        let key = match key.is_empty() {
            true => self.prefix.clone(),
            false => format!("{} {key}", self.prefix),
        };
        let key = EntryKey::new(key);
        self.all.push(Entry { key, item });
    }

    fn refuse(&mut self, refused: Refused) {
        let item = Item::Invalid {
            subject: refused.subject.into(),
            origin: self.origin.clone(),
            reason: refused.reason.into(),
        };
        self.push(&refused.key, item);
    }

    /// The container as a backend; none if it does not run, or has no address yet.
    fn backend(
        &self,
        share: &Share,
        standing: &Standing,
        view: &View<'_>,
        container: &Inspect,
    ) -> Result<Option<Backend>, String> {
        let Standing::Serves(status) = standing else {
            return Ok(None);
        };
        let target = Target {
            port: share.port.clone()?,
            transport: share.transport,
            network: share.network.as_deref(),
        };
        let Some(place) = locate(container, target, view)? else {
            return Ok(None);
        };
        let mut status = status.clone();
        if status.state == State::Ready && status.reason.is_empty() {
            status = Status::new(State::Ready, place.note);
        }
        let addr = match share.keeps_port {
            true => BackendAddr::Ip(place.addr.ip(), None),
            false => place.addr.into(),
        };
        Ok(Some(Backend {
            name: self.name.clone(),
            weight: share.weight,
            maxconn: share.maxconn,
            upper: share.thresholds.0,
            lower: share.thresholds.1,
            status,
            forward: share.forward,
            ..Backend::new(addr, self.origin.clone())
        }))
    }

    /// A service and what leads to it, unless another one of the container has that.
    fn put(&mut self, share: Share, backend: Option<Backend>) {
        let name = share.spec.name.clone();
        if let Some(reason) = self.clash(&share) {
            self.refuse(Refused {
                key: format!("service {name}"),
                subject: format!("service `{name}`"),
                reason,
            });
            return;
        }
        let service = Arc::new(Service::new(share.spec, backend));
        self.push(&format!("service {name}"), Item::Service(service));
        for route in share.routes {
            self.routes.insert(route.name.clone(), name.clone());
            let key = format!("route {}", route.name);
            self.push(&key, Item::Route(Arc::new(route)));
        }
    }

    fn clash(&self, share: &Share) -> Option<String> {
        let count = self.routes.len() + share.routes.len();
        if count > MAX_ROUTES {
            return Some(format!(
                "with this service the container has {count} routes: at most {MAX_ROUTES}"
            ));
        }
        let mut routes = share.routes.iter();
        routes.find_map(|route| {
            let other = self.routes.get(&route.name)?;
            let what = &route.name;
            Some(format!(
                "service `{other}` of the same container takes {what} already: give one of them \
                 another host, path or listen"
            ))
        })
    }
}

/// Why a container cannot be reached, and which of its services that concerns.
#[derive(Default)]
struct Unreached(BTreeMap<String, BTreeSet<Name>>);

impl Unreached {
    fn add(&mut self, reason: String, service: &Name) {
        self.0.entry(reason).or_default().insert(service.clone());
    }

    /// All of it; `one` if the container has one service only.
    fn reason(self, one: bool) -> Option<String> {
        let mut faults = Faults::default();
        for (reason, services) in self.0 {
            match services.first() {
                Some(service) if !one && services.len() == 1 => {
                    faults.push(format!("service `{service}`: {reason}"));
                }
                _ => faults.push(reason),
            }
        }
        faults.reason()
    }
}
