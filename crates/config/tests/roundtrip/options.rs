//! Socket options of services: from a number of no meaning, and as text.

use plimsoll_model::*;

use crate::write::{Parts, list, text};

/// For a service that shares no listen: others would have to say the same.
pub(crate) fn listen(n: u32) -> Option<ListenOptions> {
    let options = ListenOptions {
        fast_open: n % 7 % (ListenOptions::MAX_FAST_OPEN + 1),
        interface: interface(n),
        transparent: n.is_multiple_of(5),
    };
    Some(options).filter(|options| n % 2 == 1 && *options != ListenOptions::default())
}

pub(crate) fn to_backends(n: u32) -> Option<ToBackends> {
    let to = ToBackends {
        fast_open: n.is_multiple_of(3),
        mark: n.try_into().ok(),
        interface: interface(n / 2),
        source: match n % 4 {
            0 => Source::Routed,
            1 => Source::Client {
                port: n.is_multiple_of(3),
            },
            _ => Source::Own {
                v4: Some([10, 0, 0, 9].into()),
                v6: Some("fd00::9".parse().unwrap()),
            },
        },
    };
    Some(to).filter(|to| n % 3 != 2 && *to != ToBackends::default())
}

fn interface(n: u32) -> Option<Interface> {
    let names = ["eth0", "br-0123456789ab"];
    let name = names.get(n as usize % 3);
    name.map(|name| name.parse().unwrap())
}

pub(crate) fn write(spec: &ServiceSpec, short: bool, parts: &mut Parts) {
    if let Some(options) = &spec.listen_options {
        let mut table = Parts::default();
        let n = options.fast_open;
        table.add(!short || n > 0, "tcp-fast-open", n.to_string());
        write_interface(options.interface.as_ref(), &mut table);
        let transparent = options.transparent;
        table.add(
            !short || transparent,
            "transparent",
            transparent.to_string(),
        );
        parts.add(true, "listen-options", table.inline());
    }
    if let Some(to) = &spec.to_backends {
        let mut table = Parts::default();
        table.add(
            !short || to.fast_open,
            "tcp-fast-open",
            to.fast_open.to_string(),
        );
        if let Some(mark) = to.mark {
            table.add(true, "mark", format!("{mark:#x}"));
        }
        write_interface(to.interface.as_ref(), &mut table);
        match to.source {
            Source::Routed => {}
            Source::Client { port: false } => table.add(true, "source", text("client")),
            Source::Client { port: true } => table.add(true, "source", text("client:port")),
            Source::Own { v4, v6 } => {
                let own = v6.map(text).into_iter().chain(v4.map(text));
                table.add(true, "source", list(own));
            }
        }
        parts.add(true, "to-backends", table.inline());
    }
}

fn write_interface(interface: Option<&Interface>, table: &mut Parts) {
    if let Some(interface) = interface {
        table.add(true, "interface", text(interface));
    }
}
