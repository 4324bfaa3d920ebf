//! Which clients are served.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{Invalid, Listen, ServiceSpec};

/// Lists of networks whose clients are served, or are not. Their order says nothing, and neither
/// does how narrow a network is: `deny` goes before `allow`, and where `allow` names any, whoever is
/// in none of them is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ClientRules {
    /// Only these are served; empty: everybody is.
    pub allow: Vec<IpNet>,
    /// These are not.
    pub deny: Vec<IpNet>,
}

/// What lists say of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Served,
    /// It is in this network of `deny`.
    Denied(IpNet),
    /// It is in no network of `allow`.
    NotAllowed,
}

impl ClientRules {
    /// Networks in a list at most.
    pub const MAX: usize = 4096;

    /// Whether everybody is served.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// What is to become of a client. An IPv4-mapped IPv6 address is an IPv4 client.
    pub fn judge(&self, client: IpAddr) -> Verdict {
        let client = client.to_canonical();
        let has = |net: &&IpNet| net.contains(&client);
        match self.deny.iter().find(has) {
            Some(net) => Verdict::Denied(*net),
            None if self.allow.is_empty() || self.allow.iter().any(|net| has(&net)) => {
                Verdict::Served
            }
            None => Verdict::NotAllowed,
        }
    }

    /// Whether the lists are not too long.
    ///
    /// # Errors
    /// The first that is.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (key, list) in [("allow", &self.allow), ("deny", &self.deny)] {
            if list.len() > Self::MAX {
                return Err(Invalid(format!(
                    "{key}: {} networks; at most {}",
                    list.len(),
                    Self::MAX
                )));
            }
        }
        Ok(())
    }
}

impl ServiceSpec {
    /// A network of `deny` in which are some who speak for others, and the key that names those: they
    /// themselves are not denied when they do.
    pub fn denied_speakers(&self) -> Option<(IpNet, &'static str, IpNet)> {
        let http = self.listens.is_empty() || self.listens.iter().any(Listen::is_http);
        let trusted: &[IpNet] = if http { &self.trusted } else { &[] };
        let speakers = [
            ("accept-proxy", &*self.proxy_headers.accept),
            ("trusted", trusted),
        ];
        speakers.into_iter().find_map(|(key, nets)| {
            nets.iter().find_map(|net| {
                let overlaps = |deny: &&IpNet| deny.contains(net) || net.contains(*deny);
                let deny = self.clients.deny.iter().find(overlaps)?;
                Some((*deny, key, *net))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> ClientRules {
        let list = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        ClientRules {
            allow: list(allow),
            deny: list(deny),
        }
    }

    #[test]
    fn deny_goes_before_allow_and_who_is_not_named_by_allow_is_out() {
        let judge = |rules: &ClientRules, ip: &str| rules.judge(ip.parse().unwrap());
        let open = rules(&[], &[]);
        assert!(open.is_empty());
        assert_eq!(judge(&open, "10.0.0.1"), Verdict::Served);
        let some = rules(&["10.0.0.0/8", "10.9.9.9/32", "fd00::/8"], &["10.9.0.0/16"]);
        assert_eq!(judge(&some, "10.0.0.1"), Verdict::Served);
        assert_eq!(judge(&some, "::ffff:10.0.0.1"), Verdict::Served);
        assert_eq!(judge(&some, "fd00::1"), Verdict::Served);
        let net = "10.9.0.0/16".parse().unwrap();
        assert_eq!(judge(&some, "10.9.9.9"), Verdict::Denied(net));
        assert_eq!(judge(&some, "192.0.2.1"), Verdict::NotAllowed);
        assert_eq!(judge(&some, "2001:db8::1"), Verdict::NotAllowed);
        let but = rules(&[], &["2001:db8::/32"]);
        assert_eq!(judge(&but, "192.0.2.1"), Verdict::Served);
        assert!(matches!(judge(&but, "2001:db8::1"), Verdict::Denied(_)));
    }

    #[test]
    fn who_speaks_for_others_and_is_denied_is_found() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let listens = vec!["*:80/http".parse().unwrap()];
        let origin = crate::Origin::new("test", "web");
        let mut spec = ServiceSpec::new("web".parse().unwrap(), origin, listens);
        spec.clients = rules(&[], &["192.0.2.0/24", "10.1.0.0/16"]);
        assert_eq!(spec.denied_speakers(), None);
        let wider = (net("10.1.0.0/16"), "trusted", net("10.0.0.0/8"));
        spec.trusted = vec![net("fd00::/8"), wider.2];
        assert_eq!(spec.denied_speakers(), Some(wider));
        // Nobody is asked who it is there.
        spec.listens = vec!["*:80/tcp".parse().unwrap()];
        assert_eq!(spec.denied_speakers(), None);
        let narrower = (net("192.0.2.0/24"), "accept-proxy", net("192.0.2.7/32"));
        spec.proxy_headers.accept = vec![narrower.2];
        assert_eq!(spec.denied_speakers(), Some(narrower));
    }

    #[test]
    fn lists_have_an_end() {
        let mut long = rules(&[], &[]);
        long.deny = vec!["10.0.0.0/8".parse().unwrap(); ClientRules::MAX];
        assert_eq!(long.validate(), Ok(()));
        long.deny.extend_from_within(..1);
        assert!(long.validate().unwrap_err().0.contains("deny: 4097"));
    }
}
