//! What services are called.

use plimsoll_model::{HostPattern, Name, PathPrefix, Proto};

use super::group::Group;
use super::listen;
use super::settings::Maker;
use super::value::{Faults, cut, told};
use crate::docker::share::service_name;
use crate::docker::wire::Inspect;

/// What the names of a container's services begin with.
#[derive(Debug)]
pub(crate) enum Base {
    /// What groups containers: a label, Compose or Swarm.
    Grouped(Name),
    /// The name of a container that nothing groups, or why it names no service. It tells nobody what
    /// the container is for, so its services are called after their hosts where they have some.
    Alone(Result<Name, String>),
}

/// That of a container where no label says it: `PROJECT/SERVICE` of Compose, the name of the Swarm
/// service, or that of the container.
///
/// # Errors
/// Compose or Swarm call it what no service can be called.
pub(crate) fn base(container: &Inspect) -> Result<Base, String> {
    let label = |key| container.label(key).filter(|value| !value.is_empty());
    let project = label("com.docker.compose.project");
    match (project, label("com.docker.compose.service")) {
        (Some(project), Some(service)) => parsed(&format!("{project}/{service}")),
        _ => match label("com.docker.swarm.service.name") {
            Some(service) => parsed(service),
            None => return Ok(Base::Alone(parsed(container.display_name()))),
        },
    }
    .map(Base::Grouped)
}

fn parsed(name: &str) -> Result<Name, String> {
    name.parse().map_err(|error| {
        let error = told(&error, name);
        format!("no service can be named after it: {error}: say a name with label plimsoll.service")
    })
}

impl Maker<'_> {
    /// What a service is called: as its label says; after its first host, if it has one and nothing
    /// groups the container; else the name of the default one, or that and its own.
    pub(crate) fn name(&self, name: &str, group: &Group<'_>) -> Result<Name, String> {
        if let Some(value) = group.get("service") {
            let mut faults = Faults::default();
            let name = value.parsed(&mut faults);
            return name.ok_or_else(|| faults.reason().unwrap_or_default());
        }
        let base = match self.base {
            Base::Grouped(base) => base,
            Base::Alone(base) => match self.name_by_host(group) {
                Some(name) => return name,
                None => base.as_ref().map_err(String::clone)?,
            },
        };
        if name.is_empty() {
            return Ok(base.clone());
        }
        let name = format!("{base}/{name}");
        name.parse().map_err(|error| {
            let label = cut(&format!("{}.service", group.prefix));
            format!("{}: say another with label {label}", told(&error, &name))
        })
    }

    /// The name after the first of its hosts that can be read: exact ones go first, then by the
    /// alphabet.
    fn name_by_host(&self, group: &Group<'_>) -> Option<Result<Name, String>> {
        let hosts = group.get("host")?.text.split(',');
        let hosts = hosts.filter_map(|host| host.trim().parse::<HostPattern>().ok());
        let first = hosts.min()?;
        let path = group.get("path").and_then(|path| path.text.parse().ok());
        let path = path.unwrap_or_else(PathPrefix::root);
        // What is wrong with them is told where they are used.
        let listens = listen::read(group, &mut Faults::default())?;
        if listens.proto != Proto::Http {
            return None;
        }
        let default = &self.settings.http;
        Some(service_name(&first, &path, &listens.listens, default))
    }
}
