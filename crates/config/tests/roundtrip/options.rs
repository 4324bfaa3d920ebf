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

/// The same for the same address, in whichever service.
pub(crate) fn vips(listens: &[Listen]) -> Vec<Vip> {
    let mut vips = std::collections::BTreeMap::new();
    for listen in listens {
        let Listen::Socket { ip: Some(ip), .. } = listen else {
            continue;
        };
        let Ok(mut address) = ip.to_string().parse::<VipAddress>() else {
            continue;
        };
        let last = match ip {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(ip) => ip.octets()[15],
        };
        if last.is_multiple_of(2) {
            address.prefix /= 1 + last / 2 % 2;
        }
        let interface = interface(u32::from(last) % 2).unwrap();
        vips.insert(*ip, Vip { address, interface });
    }
    vips.into_values().collect()
}

fn interface(n: u32) -> Option<Interface> {
    let names = ["eth0", "br-0123456789ab"];
    let name = names.get(n as usize % 3);
    name.map(|name| name.parse().unwrap())
}

pub(crate) fn write(spec: &ServiceSpec, short: bool, parts: &mut Parts) {
    let vips = spec.vips.iter().map(|vip| {
        let VipAddress { ip, prefix } = vip.address;
        let alone = short && VipAddress::alone(ip) == vip.address;
        let address = if alone {
            ip.to_string()
        } else {
            format!("{ip}/{prefix}")
        };
        let mut table = Parts::default();
        table.add(true, "address", text(address));
        table.add(true, "interface", text(&vip.interface));
        table.inline()
    });
    let vips: Vec<String> = vips.collect();
    match vips.as_slice() {
        [] => {}
        [one] if short => parts.add(true, "vip", one.clone()),
        all => parts.add(true, "vip", format!("[{}]", all.join(", "))),
    }
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
