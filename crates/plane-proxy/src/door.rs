//! Who gets in: the lists of clients of services and routes, ready to be looked at.

use std::net::IpAddr;

use plimsoll_model::{ClientRules, NetSet, ServiceSpec};

/// [`ClientRules`], ready.
#[derive(Debug)]
pub(crate) struct Lists {
    /// None: everybody.
    allow: Option<NetSet>,
    deny: NetSet,
}

impl Lists {
    /// None if everybody is served.
    pub(crate) fn new(rules: &ClientRules) -> Option<Self> {
        (!rules.is_empty()).then(|| Self {
            allow: (!rules.allow.is_empty()).then(|| NetSet::new(&rules.allow)),
            deny: NetSet::new(&rules.deny),
        })
    }

    /// Whether a client is served.
    pub(crate) fn admit(&self, client: IpAddr) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|nets| nets.contains(client));
        allowed && !self.deny.contains(client)
    }
}

/// What stands between clients and a service.
#[derive(Debug)]
pub(crate) struct Door {
    lists: Option<Lists>,
}

impl Door {
    /// None if it would be open for everybody. Boxed, for most services have none.
    pub(crate) fn new(spec: &ServiceSpec) -> Option<Box<Self>> {
        let lists = Lists::new(&spec.clients)?;
        Some(Box::new(Self { lists: Some(lists) }))
    }

    /// Whether the lists let a client in.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.lists.as_ref().is_none_or(|lists| lists.admit(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lists_say_what_their_model_says() {
        let list = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let nets: [&[&str]; 4] = [
            &[],
            &["10.0.0.0/8"],
            &["fd00::/8"],
            &["10.9.0.0/16", "::/0"],
        ];
        for (allow, deny) in nets.iter().flat_map(|a| nets.iter().map(move |d| (a, d))) {
            let (allow, deny) = (list(allow), list(deny));
            let rules = ClientRules { allow, deny };
            let lists = Lists::new(&rules);
            assert_eq!(lists.is_none(), rules.is_empty());
            for ip in [
                "10.0.0.1",
                "10.9.0.1",
                "192.0.2.1",
                "fd00::1",
                "2001:db8::1",
            ] {
                let ip = ip.parse().unwrap();
                let wanted = rules.judge(ip) == plimsoll_model::Verdict::Served;
                let admitted = lists.as_ref().is_none_or(|lists| lists.admit(ip));
                assert_eq!(admitted, wanted, "{ip} by {rules:?}");
            }
        }
    }
}
