//! Labels that limit how much of a service its clients may have.

use plimsoll_model::{Limits, Proto, Quota, Rate};

use super::group::Group;
use super::value::Faults;

/// Before the keys that are for each source.
const PER_SOURCE: &str = "limits.per-source";

/// What is said of a service with this protocol; none if that is nothing.
pub(crate) fn read(group: &Group<'_>, proto: Proto, faults: &mut Faults) -> Option<Limits> {
    let mut limits = Limits {
        total: quota(group, "limits", proto, faults),
        per_source: quota(group, PER_SOURCE, proto, faults),
        ..Limits::default()
    };
    let nothing = Quota::default();
    for (key, max, value) in [
        ("limits.per-source.prefix-v4", 32, &mut limits.prefix_v4),
        ("limits.per-source.prefix-v6", 128, &mut limits.prefix_v6),
    ] {
        let Some(said) = group.get(key) else {
            continue;
        };
        if limits.per_source == nothing {
            let prefix = &group.prefix;
            let why = format!("it needs a limit, such as label {prefix}.{PER_SOURCE}.request-rate");
            faults.push(said.fault(why));
        }
        if let Some(read) = said.number(1, max, faults) {
            *value = read;
        }
    }
    (limits != Limits::default()).then_some(limits)
}

fn quota(group: &Group<'_>, of: &str, proto: Proto, faults: &mut Faults) -> Quota {
    let mut quota = Quota::default();
    for (key, at_once, rate_of) in [
        (
            "connection",
            &mut quota.connections,
            &mut quota.connection_rate,
        ),
        ("request", &mut quota.requests, &mut quota.request_rate),
    ] {
        let keys = [
            format!("{of}.{key}s"),
            format!("{of}.{key}-rate"),
            format!("{of}.{key}-rate.burst"),
        ];
        let why = match (proto, key) {
            (Proto::Http, "connection") => Some(
                "not for http services, whose listens are the operator's: limit requests, or say \
                 it in the configuration file"
                    .to_owned(),
            ),
            (Proto::Http, _) | (Proto::Tcp, "connection") => None,
            (proto, "connection") => Some(format!("only for tcp services, this one is {proto}")),
            (proto, _) => Some(format!("only for http services, this one is {proto}")),
        };
        if let Some(why) = why {
            let said = keys.iter().filter_map(|key| group.get(key));
            said.for_each(|value| faults.push(value.fault(&why)));
            continue;
        }
        let [many, rate, burst] = keys;
        if let Some(value) = group.get(&many) {
            *at_once = value.number(0, u32::MAX, faults).unwrap_or_default();
        }
        let said: Option<Rate> = group.get(&rate).and_then(|value| value.parsed(faults));
        *rate_of = match (said, group.get(&burst)) {
            (Some(rate), Some(value)) => {
                (value.number(1, Rate::MAX, faults)).map(|burst| Rate { burst, ..rate })
            }
            (None, Some(value)) => {
                if group.get(&rate).is_none() {
                    let why = format!("it needs label {}.{rate} with a rate", group.prefix);
                    faults.push(value.fault(why));
                }
                None
            }
            (said, None) => said,
        };
    }
    quota
}
