//! Who listens where: finds conflicts without comparing every listen with every other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plimsoll_model::{Listen, Proto};

/// What is known of one claimed listen.
pub(crate) struct Claim<T> {
    pub(crate) listen: Listen,
    pub(crate) owner: T,
}

/// Ports by their first one; no two overlap.
type PortMap<T> = BTreeMap<u16, Claim<T>>;

/// The listens claimed so far, no two of which conflict.
pub(crate) struct Sockets<T> {
    sockets: BTreeMap<(Proto, Option<IpAddr>), PortMap<T>>,
    marks: BTreeMap<Listen, Claim<T>>,
}

impl<T> Sockets<T> {
    pub(crate) fn new() -> Self {
        Self {
            sockets: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// The claim that a listen conflicts with, in the sense of [`Listen::conflicts`].
    pub(crate) fn find(&self, listen: &Listen) -> Option<&Claim<T>> {
        let Listen::Socket { ip, ports, proto } = listen else {
            return self.marks.get(listen);
        };
        let (first, last) = ports.bounds();
        let here = |ip: Option<IpAddr>| {
            let ports = self.sockets.get(&(proto.transport(), ip))?;
            let (_, claim) = ports.range(..=last).next_back()?;
            (end(&claim.listen) >= first).then_some(claim)
        };
        let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match ip {
            None => here(None)
                .or_else(|| here(Some(v4)))
                .or_else(|| here(Some(v6))),
            Some(ip) if ip.is_unspecified() => here(Some(*ip)).or_else(|| here(None)),
            Some(ip) => here(Some(*ip)),
        }
    }

    /// Claims a listen that conflicts with none.
    pub(crate) fn claim(&mut self, listen: Listen, owner: T) {
        let claim = Claim { listen, owner };
        match listen {
            Listen::Socket { ip, ports, proto } => {
                let (first, _) = ports.bounds();
                let ports = self.sockets.entry((proto.transport(), ip)).or_default();
                ports.insert(first, claim);
            }
            Listen::Mark { .. } => {
                self.marks.insert(listen, claim);
            }
        }
    }

    /// All listens claimed.
    pub(crate) fn listens(&self) -> impl Iterator<Item = &Listen> {
        let sockets = self.sockets.values().flat_map(BTreeMap::values);
        sockets.chain(self.marks.values()).map(|c| &c.listen)
    }
}

fn end(listen: &Listen) -> u16 {
    match listen {
        Listen::Socket { ports, .. } => ports.bounds().1,
        Listen::Mark { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listen() -> impl Strategy<Value = Listen> {
        let address = prop::sample::select(vec!["*", "0.0.0.0", "[::]", "10.0.0.1", "[::1]"]);
        let ports = prop_oneof![
            (1u16..20).prop_map(|p| p.to_string()),
            (1u16..20, 1u16..5).prop_map(|(p, n)| format!("{p}-{}", p + n)),
            Just("*".to_owned()),
        ];
        let proto = prop::sample::select(vec!["tcp", "udp", "http"]);
        prop_oneof![
            9 => (address, ports, proto).prop_map(|(a, p, x)| format!("{a}:{p}/{x}")),
            1 => (1u32..3).prop_map(|n| format!("mark:{n}")),
        ]
        .prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn finds_what_comparing_all_finds(listens in prop::collection::vec(listen(), 0..40)) {
            let mut sockets = Sockets::new();
            let mut claimed: Vec<Listen> = Vec::new();
            for listen in listens {
                let found = sockets.find(&listen).map(|claim| claim.listen);
                let expected = claimed.iter().any(|other| listen.conflicts(other));
                prop_assert_eq!(found.is_some(), expected, "{}", listen);
                match found {
                    Some(other) => prop_assert!(listen.conflicts(&other)),
                    None => {
                        sockets.claim(listen, ());
                        claimed.push(listen);
                    }
                }
            }
            prop_assert_eq!(sockets.listens().count(), claimed.len());
        }
    }
}
