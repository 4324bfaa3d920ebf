//! The labels `plimsoll.*` of a container; `docs/labels.md` describes them.
//!
//! `plimsoll.KEY` speaks of the container's default service, `plimsoll.NAME.KEY` of a further
//! one. What is wrong with one service of a container does not touch its others.

mod check;
mod compress;
mod cookie;
mod elsewhere;
mod forward;
mod group;
pub(crate) mod host;
mod http;
mod limits;
mod listen;
mod maintenance;
pub(crate) mod mistyped;
mod naming;
mod outlier;
pub(crate) mod reserved;
mod retry;
pub mod schema;
mod settings;
pub(crate) mod value;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Name, Origin};

use super::share::{Refused, Share};
use super::view::Settings;
use super::virtual_host;
use super::wire::Inspect;
use naming::Base;
use schema::{NODE_VIP, PREFIX};
use value::{Faults, Value, cut};

/// Labels of ours that a container has at most.
const MAX_LABELS: usize = 1024;
/// Services of one container at most.
const MAX_SERVICES: usize = 64;

/// How the labels begin that are read: ours, and those by which Compose and Swarm say what a
/// container belongs to.
pub const READ: [&str; 3] = [PREFIX, "com.docker.compose.", "com.docker.swarm."];

/// Whether a label is looked at: one that is read, or that was meant to be.
pub fn is_kept(label: &str) -> bool {
    READ.iter().any(|read| label.starts_with(read)) || mistyped::is_near(label)
}

/// What the labels of a container say.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// What holds for all services of the container.
    pub(crate) common: Common,
    /// Its services, sound or not.
    pub(crate) shares: Vec<Result<Share, Refused>>,
}

/// What holds for all services of a container that do not say it themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    /// The network to reach it by.
    pub(crate) network: Option<Arc<str>>,
    /// How long what it has may take to end.
    pub(crate) drain: Option<Duration>,
}

/// Whether a container is looked at: neither turned off by `plimsoll.enable=false` nor a one-off
/// one of `docker compose run`.
pub fn is_wanted(container: &Inspect) -> bool {
    let enable = container.label("plimsoll.enable").map(str::trim);
    let one_off = container.label("com.docker.compose.oneoff");
    enable != Some("false") && !one_off.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The longest time that a container's services are given to drain: the greatest of its labels
/// `plimsoll.drain` and `plimsoll.NAME.drain` that can be read.
pub fn drain(container: &Inspect) -> Option<Duration> {
    let ours = container.config.labels.iter();
    let drains = ours.filter_map(|(label, text)| {
        let (_, key) = group::split(label.strip_prefix(PREFIX)?);
        let text = (key == "drain").then(|| Value::new(label, text).text)?;
        plimsoll_config::parse_duration(text).ok()
    });
    drains.max()
}

/// Reads the labels of a container.
///
/// # Errors
/// What is wrong concerns all of it.
pub(crate) fn read(container: &Inspect, settings: &Settings) -> Result<Said, Refused> {
    let whole = |reason: String| Refused {
        key: String::new(),
        subject: format!("container {}", container.display_name()),
        reason,
    };
    let labels = container.config.labels.iter();
    let ours = labels.filter(|(label, _)| label.starts_with(PREFIX) && *label != NODE_VIP);
    let ours = ours.map(|(label, text)| Value::new(label, text));
    if ours.clone().count() > MAX_LABELS {
        let reason = format!("it has more than {MAX_LABELS} labels {PREFIX}*");
        return Err(whole(reason));
    }
    let mut groups = group::groups(ours);
    let mut faults = Faults::default();
    let default = groups.remove("").unwrap_or_default();
    let (default, container_wide) = default.divide();
    let mut common = Common::default();
    if let Some(value) = container_wide.get("network") {
        common.network = settings::network(value, &mut faults);
    }
    if let Some(value) = container_wide.get("drain") {
        common.drain = value.duration(Duration::ZERO, &mut faults);
    }
    let enable = container_wide.get("enable");
    let words = [("true", ()), ("false", ())];
    enable.map(|value| value.word(&words, &mut faults));
    let named = container_wide.get("service");
    let base: Option<Name> = named.and_then(|value| value.parsed(&mut faults));
    if let Some(reason) = faults.reason() {
        return Err(whole(reason));
    }
    // To enable a container says nothing of a service where its environment does.
    let enabled = enable.is_some() && !virtual_host::is_there(container);
    let alone = groups.is_empty() && (enabled || named.is_some());
    if !default.is_empty() || alone {
        groups.insert("", default);
    }
    if groups.len() > MAX_SERVICES {
        let reason = format!("it has more than {MAX_SERVICES} services");
        return Err(whole(reason));
    }
    let origin = Origin::new(
        settings.source.clone(),
        format!("container {}", container.display_name()),
    );
    let base = match base {
        Some(base) => Base::Grouped(base),
        None if groups.is_empty() => {
            let shares = Vec::new();
            return Ok(Said { common, shares });
        }
        None => naming::base(container).map_err(whole)?,
    };
    let maker = settings::Maker {
        container,
        settings,
        origin: &origin,
        base: &base,
        common: &common,
    };
    let mut names = BTreeSet::new();
    let mut shares = Vec::new();
    for (name, group) in &groups {
        let share = maker.share(name, group, |name| names.contains(name));
        if let Ok(share) = &share {
            names.insert(share.spec.name.clone());
        }
        shares.push(share.map_err(|reason| Refused {
            key: format!("labels {}", group.prefix),
            subject: match (maker.name(name, group), &base) {
                (Ok(name), _) => format!("service `{name}`"),
                (Err(_), Base::Grouped(base) | Base::Alone(Ok(base))) => {
                    format!("service `{base}/{}`", cut(name))
                }
                (Err(_), Base::Alone(Err(_))) => {
                    format!("container {}", container.display_name())
                }
            },
            reason,
        }));
    }
    Ok(Said { common, shares })
}
