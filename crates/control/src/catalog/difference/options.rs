//! Where services differ in what their sockets are told.

use std::fmt::Display;

use plimsoll_model::{ListenOptions, ToBackends};

use super::{Difference, NONE, differ};

fn or_none<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| NONE.into(), T::to_string)
}

/// The first option of their listening sockets in which two services differ.
pub(super) fn of_listens(
    first: Option<&ListenOptions>,
    second: Option<&ListenOptions>,
) -> Option<Difference> {
    let nothing = ListenOptions::default();
    let second = second.unwrap_or(&nothing);
    let ListenOptions {
        fast_open,
        interface,
        transparent,
    } = first.unwrap_or(&nothing);
    None.or_else(|| {
        differ(
            "listen-options.tcp-fast-open",
            fast_open,
            &second.fast_open,
            ToString::to_string,
        )
    })
    .or_else(|| {
        differ(
            "listen-options.interface",
            interface,
            &second.interface,
            or_none,
        )
    })
    .or_else(|| {
        differ(
            "listen-options.transparent",
            transparent,
            &second.transparent,
            ToString::to_string,
        )
    })
}

/// The first setting of the way to their backends in which two services differ.
pub(super) fn of_ways(
    first: Option<&ToBackends>,
    second: Option<&ToBackends>,
) -> Option<Difference> {
    let nothing = ToBackends::default();
    let second = second.unwrap_or(&nothing);
    let ToBackends {
        fast_open,
        mark,
        interface,
        source,
    } = first.unwrap_or(&nothing);
    None.or_else(|| {
        differ(
            "to-backends.tcp-fast-open",
            fast_open,
            &second.fast_open,
            ToString::to_string,
        )
    })
    .or_else(|| differ("to-backends.mark", mark, &second.mark, or_none))
    .or_else(|| {
        differ(
            "to-backends.interface",
            interface,
            &second.interface,
            or_none,
        )
    })
    .or_else(|| {
        differ(
            "to-backends.source",
            source,
            &second.source,
            ToString::to_string,
        )
    })
}

#[cfg(test)]
mod tests {
    use plimsoll_model::Source;

    use super::*;

    #[test]
    fn every_option_is_compared() {
        let setting = |difference: Option<Difference>| difference.map(|d| (d.setting, d.second));
        let listen = |change: fn(&mut ListenOptions)| {
            let mut options = ListenOptions::default();
            change(&mut options);
            setting(of_listens(None, Some(&options)))
        };
        let way = |change: fn(&mut ToBackends)| {
            let mut to = ToBackends::default();
            change(&mut to);
            setting(of_ways(None, Some(&to)))
        };
        for (found, name, value) in [
            (
                listen(|o| o.fast_open = 5),
                "listen-options.tcp-fast-open",
                "5",
            ),
            (
                listen(|o| o.interface = "eth0".parse().ok()),
                "listen-options.interface",
                "eth0",
            ),
            (
                listen(|o| o.transparent = true),
                "listen-options.transparent",
                "true",
            ),
            (
                way(|to| to.fast_open = true),
                "to-backends.tcp-fast-open",
                "true",
            ),
            (
                way(|to| to.mark = 7.try_into().ok()),
                "to-backends.mark",
                "7",
            ),
            (
                way(|to| to.interface = "eth0".parse().ok()),
                "to-backends.interface",
                "eth0",
            ),
            (
                way(|to| to.source = Source::Client { port: true }),
                "to-backends.source",
                "client:port",
            ),
        ] {
            assert_eq!(found, Some((name, value.to_owned())));
        }
        assert_eq!(of_listens(None, Some(&ListenOptions::default())), None);
        assert_eq!(of_ways(Some(&ToBackends::default()), None), None);
    }
}
