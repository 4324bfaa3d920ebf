//! Which service gets an HTTP request: by host and path, in one fixed order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::{HostPattern, Name, PathPrefix, Route};

use crate::snapshot::LiveService;

/// Where a route leads.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Name,
    path: PathPrefix,
    total: u64,
    services: Vec<(u64, Arc<LiveService>)>,
    turn: AtomicU64,
}

impl Rule {
    /// The service whose turn it is: shares by weight, spread evenly in time, one count for all
    /// cores. If every weight is 0, the first.
    pub(crate) fn service(&self) -> Option<&Arc<LiveService>> {
        if let [(_, only)] = self.services.as_slice() {
            return Some(only);
        }
        // Multiples of the golden ratio fall evenly over the unit interval at every length.
        let turn = self
            .turn
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut at = ((u128::from(turn) * u128::from(self.total)) >> 64) as u64;
        let chosen = self
            .services
            .iter()
            .find(|(weight, _)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
        chosen.or(self.services.first()).map(|(_, service)| service)
    }

    /// Every service with its weight.
    pub(crate) fn shares(&self) -> impl Iterator<Item = &(u64, Arc<LiveService>)> {
        self.services.iter()
    }

    /// All services, for when the one whose turn it is cannot serve. Those of weight 0 are left
    /// out.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Arc<LiveService>> {
        self.services
            .iter()
            .filter(|(weight, _)| *weight > 0)
            .map(|(_, service)| service)
    }
}

/// What became of a look-up.
pub(crate) enum Routed<'a> {
    /// A route.
    Rule(&'a Arc<Rule>),
    /// No route, but a service that takes all that has none.
    CatchAll(&'a Arc<LiveService>),
    /// Nothing.
    None,
}

/// The routes of one listen. For each pattern of hosts, every rule that can match a host whose
/// most specific pattern this is, in the order in which they are tried.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<Arc<str>, Vec<Arc<Rule>>>,
    suffixes: HashMap<Arc<str>, Vec<Arc<Rule>>>,
    any: Vec<Arc<Rule>>,
    catch_all: Option<Arc<LiveService>>,
}

impl Router {
    /// A router of these routes; services that are not there are left out of their route.
    pub(crate) fn new(
        routes: &[Arc<Route>],
        services: &BTreeMap<Name, Arc<LiveService>>,
        catch_all: Option<Arc<LiveService>>,
    ) -> Self {
        let mut all: Vec<(&HostPattern, i32, Arc<Rule>)> = Vec::new();
        for route in routes {
            let targets: Vec<(u64, Arc<LiveService>)> = route
                .services
                .iter()
                .filter_map(|w| Some((w.weight.into(), services.get(&w.service)?.clone())))
                .collect();
            let rule = Arc::new(Rule {
                name: route.name.clone(),
                path: route.path.clone(),
                total: targets.iter().map(|(weight, _)| weight).sum(),
                services: targets,
                turn: AtomicU64::new(0),
            });
            all.extend(
                route
                    .hosts
                    .iter()
                    .map(|host| (host, route.priority, rule.clone())),
            );
        }
        // The order of `plimsoll_model::Route`.
        all.sort_by(
            |(host, priority, rule), (other_host, other_priority, other)| {
                other_priority
                    .cmp(priority)
                    .then_with(|| specificity(other_host).cmp(&specificity(host)))
                    .then_with(|| other.path.as_str().len().cmp(&rule.path.as_str().len()))
                    .then_with(|| rule.name.cmp(&other.name))
            },
        );
        let matching = |text: &str, exactly: bool| -> Vec<Arc<Rule>> {
            all.iter()
                .filter(|(host, _, _)| match host {
                    HostPattern::Suffix(suffix) if !exactly => text.ends_with(&**suffix),
                    host => {
                        host.matches(text) && (exactly || !matches!(host, HostPattern::Exact(_)))
                    }
                })
                .map(|(_, _, rule)| rule.clone())
                .collect()
        };
        let mut router = Router {
            catch_all,
            ..Router::default()
        };
        let patterns: BTreeSet<&HostPattern> = all.iter().map(|(host, _, _)| *host).collect();
        for pattern in patterns {
            match pattern {
                HostPattern::Exact(name) => {
                    drop(router.exact.insert(name.clone(), matching(name, true)));
                }
                HostPattern::Suffix(suffix) => {
                    drop(
                        router
                            .suffixes
                            .insert(suffix.clone(), matching(suffix, false)),
                    );
                }
                HostPattern::Any => {}
            }
        }
        router.any = all
            .iter()
            .filter(|(host, _, _)| matches!(host, HostPattern::Any))
            .map(|(_, _, rule)| rule.clone())
            .collect();
        router
    }

    /// Where a request goes. `host` is in lower case, without port and final dot.
    pub(crate) fn route(&self, host: &str, path: &str) -> Routed<'_> {
        let found = self.rules(host).iter().find(|rule| rule.path.matches(path));
        match (found, &self.catch_all) {
            (Some(rule), _) => Routed::Rule(rule),
            (None, Some(service)) => Routed::CatchAll(service),
            (None, None) => Routed::None,
        }
    }

    fn rules(&self, host: &str) -> &[Arc<Rule>] {
        if !self.exact.is_empty()
            && let Some(rules) = self.exact.get(host)
        {
            return rules;
        }
        if !self.suffixes.is_empty() {
            // From the longest suffix to the shortest; the first label is never part of one.
            let dots = host.bytes().enumerate().skip(1).filter(|(_, b)| *b == b'.');
            for (dot, _) in dots {
                if let Some(rules) = host.get(dot..).and_then(|suffix| self.suffixes.get(suffix)) {
                    return rules;
                }
            }
        }
        &self.any
    }
}

fn specificity(host: &HostPattern) -> (u8, usize) {
    match host {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Suffix(suffix) => (1, suffix.len()),
        HostPattern::Any => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_model::{Origin, WeightedService};

    use super::*;

    fn route(
        name: &str,
        host: &str,
        path: &str,
        priority: i32,
        services: &[(&str, u32)],
    ) -> Arc<Route> {
        Arc::new(Route {
            name: name.parse().unwrap(),
            origin: Origin::new("test", name),
            hosts: vec![host.parse().unwrap()],
            path: path.parse().unwrap(),
            listens: Vec::new(),
            priority,
            services: services
                .iter()
                .map(|(s, weight)| WeightedService {
                    service: s.parse().unwrap(),
                    weight: *weight,
                })
                .collect(),
        })
    }

    fn services(names: &[&str]) -> BTreeMap<Name, Arc<LiveService>> {
        let live = |name: &str| Arc::new(LiveService::for_test(name));
        names
            .iter()
            .map(|name| (name.parse().unwrap(), live(name)))
            .collect()
    }

    fn found<'a>(router: &'a Router, host: &str, path: &str) -> &'a str {
        match router.route(host, path) {
            Routed::Rule(rule) => rule.name.as_str(),
            Routed::CatchAll(service) => service.spec.name.as_str(),
            Routed::None => "none",
        }
    }

    #[test]
    fn the_most_specific_route_wins_and_priority_stands_above() {
        let all = services(&["a"]);
        let a: &[(&str, u32)] = &[("a", 1)];
        let routes = [
            route("any", "*", "/", 0, a),
            route("any-deep", "*", "/deep/er", 0, a),
            route("wild", "*.example.com", "/", 0, a),
            route("wilder", "*.b.example.com", "/", 0, a),
            route("exact", "www.example.com", "/", 0, a),
            route("exact-api", "www.example.com", "/api", 0, a),
            route("only-path", "x.org", "/x", 0, a),
            route("top", "*", "/top", 1, a),
            route("low", "low.org", "/", -1, a),
        ];
        let router = Router::new(&routes, &all, None);
        for (host, path, expected) in [
            ("www.example.com", "/", "exact"),
            ("www.example.com", "/api/x", "exact-api"),
            ("www.example.com", "/apis", "exact"),
            ("www.example.com", "/top", "top"),
            ("a.b.example.com", "/", "wilder"),
            ("a.c.example.com", "/", "wild"),
            ("b.example.com", "/", "wild"),
            ("example.com", "/", "any"),
            ("example.com", "/deep/er/x", "any-deep"),
            ("x.org", "/x", "only-path"),
            ("x.org", "/y", "any"),
            ("low.org", "/", "any"),
            ("", "/", "any"),
        ] {
            assert_eq!(found(&router, host, path), expected, "{host}{path}");
        }
    }

    #[test]
    fn what_has_no_route_goes_to_the_catch_all_or_nowhere() {
        let all = services(&["a"]);
        let routes = [route("r", "a.org", "/x", 0, &[("a", 1)])];
        assert_eq!(
            found(&Router::new(&routes, &all, None), "b.org", "/x"),
            "none"
        );
        assert_eq!(
            found(&Router::new(&routes, &all, None), "a.org", "/"),
            "none"
        );
        let catch_all = all.values().next().cloned();
        assert_eq!(
            found(&Router::new(&routes, &all, catch_all), "b.org", "/"),
            "a"
        );
    }

    #[test]
    fn services_of_a_route_get_their_shares_evenly() {
        let all = services(&["a", "b"]);
        let router = Router::new(
            &[route("r", "*", "/", 0, &[("a", 1), ("b", 9)])],
            &all,
            None,
        );
        let Routed::Rule(rule) = router.route("x", "/") else {
            panic!()
        };
        let to_a = (0..1000)
            .filter(|_| rule.service().unwrap().spec.name.as_str() == "a")
            .count();
        assert!((95..=105).contains(&to_a), "{to_a} of 1000 at 1:9");
    }
}
