//! Which plane carries what.

use plimsoll_model::{Forward, Invalid, PlaneChoice, Route, Service};
use plimsoll_plane::{Plane, Unsupported};

use crate::{Refused, Vet};

/// The plane that is to carry a service: the one it names, or the first of `planes` that can.
///
/// # Errors
/// None can: what is lacking, what to use instead, and when to ask again.
pub fn assign<'a>(
    service: &Service,
    planes: impl Iterator<Item = &'a dyn Plane> + Clone,
) -> Result<&'static str, Refused> {
    let named = match service.spec.plane {
        PlaneChoice::Auto => None,
        PlaneChoice::Proxy => Some("proxy"),
        PlaneChoice::Ebpf => Some("ebpf"),
        PlaneChoice::Ipvs => Some("ipvs"),
    };
    let there = || {
        let names = planes.clone().map(|p| format!("plane = \"{}\"", p.name()));
        names.collect::<Vec<_>>().join(" or ")
    };
    // What a plane of the other kind lacks is not what the owner of the service wants to know.
    let proxied = (service.backends.values()).all(|backend| backend.forward == Forward::Proxy);
    let mut lacking = None;
    let mut of_other_kind = None;
    // That one could carry it but for the moment comes before what others lack.
    let mut passing: Option<Unsupported> = None;
    for plane in planes.clone() {
        if named.is_some_and(|name| name != plane.name()) {
            continue;
        }
        let Err(error) = plane.check(service) else {
            return Ok(plane.name());
        };
        if error.again.is_some() {
            passing = passing.or(Some(error));
        } else if (plane.name() == "proxy") == proxied {
            lacking = lacking.or(Some(error));
        } else {
            of_other_kind = of_other_kind.or(Some(error));
        }
    }
    let again = passing.as_ref().and_then(|error| error.again);
    let why = match (passing.or(lacking).or(of_other_kind), named) {
        (Some(error), _) => Invalid(error.to_string()),
        (None, Some(name)) => Invalid(format!(
            "the {name} plane is not in this build: use {}",
            there()
        )),
        (None, None) => Invalid::new("there is no plane to carry it"),
    };
    Err(Refused { why, again })
}

/// The planes there are, the preferred one first.
#[derive(Clone, Copy)]
pub struct Available<'a>(pub &'a [&'a dyn Plane]);

impl Vet for Available<'_> {
    fn service(&self, service: &Service) -> Result<&'static str, Refused> {
        assign(service, self.0.iter().copied())
    }

    fn can(&self, service: &Service, plane: &'static str) -> bool {
        let named = self.0.iter().find(|p| p.name() == plane);
        named.is_some_and(|plane| plane.check(service).is_ok())
    }

    fn route(&self, route: &Route, plane: &'static str) -> Result<(), Invalid> {
        match self.0.iter().find(|p| p.name() == plane) {
            Some(plane) => plane
                .check_route(route)
                .map_err(|error| Invalid(error.to_string())),
            None => Err(Invalid(format!("the {plane} plane is not in this build"))),
        }
    }
}
