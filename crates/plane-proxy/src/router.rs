//! Which service gets an HTTP request: by host and path, in one fixed order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::{HostPattern, Name, PathPrefix, Route};

use crate::http::plain::plain;
use crate::http::rules::RouteRules;
use crate::snapshot::LiveService;

/// Where a route leads.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Name,
    pub(crate) path: PathPrefix,
    /// What it does with its requests, if that is anything.
    pub(crate) http: Option<Box<RouteRules>>,
    total: u64,
    services: Vec<(u64, Arc<LiveService>)>,
    turn: Arc<AtomicU64>,
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

    fn is_guard(&self) -> bool {
        let guards = |http: &RouteRules| http.auth.is_some() || http.lists.is_some();
        self.http.as_deref().is_some_and(guards)
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
    /// A route does not let everybody through.
    guarded: bool,
}

impl Router {
    /// A router of these routes, whose shares go on by `turns`; services that are not there are left
    /// out of their route.
    pub(crate) fn new(
        routes: &[Arc<Route>],
        services: &BTreeMap<Name, Arc<LiveService>>,
        turns: &HashMap<Name, Arc<AtomicU64>>,
        catch_all: Option<Arc<LiveService>>,
    ) -> Self {
        let mut router = Router {
            catch_all,
            ..Router::default()
        };
        let mut groups: BTreeMap<&HostPattern, Vec<Ranked>> = BTreeMap::new();
        for route in routes {
            let targets: Vec<(u64, Arc<LiveService>)> = route
                .services
                .iter()
                .filter_map(|w| Some((w.weight.into(), services.get(&w.service)?.clone())))
                .collect();
            let rule = Arc::new(Rule {
                name: route.name.clone(),
                path: route.path.clone(),
                http: (route.http.as_deref()).map(|http| Box::new(RouteRules::new(http))),
                total: targets.iter().map(|(weight, _)| weight).sum(),
                services: targets,
                turn: turns.get(&route.name).cloned().unwrap_or_default(),
            });
            router.guarded |= rule.is_guard();
            for host in &route.hosts {
                let ranked = Ranked {
                    priority: route.priority,
                    host: host.clone(),
                    rule: rule.clone(),
                };
                groups.entry(host).or_default().push(ranked);
            }
        }
        for pattern in groups.keys() {
            let rules = in_order(&groups, pattern);
            match pattern {
                HostPattern::Exact(name) => drop(router.exact.insert(name.clone(), rules)),
                HostPattern::Suffix(suffix) => {
                    drop(router.suffixes.insert(suffix.clone(), rules));
                }
                HostPattern::Any => router.any = rules,
            }
        }
        router
    }

    /// Whether a backend may take the path for one of another route, which does not let everybody
    /// through.
    pub(crate) fn is_evasive(&self, host: &str, path: &str) -> bool {
        if !self.guarded {
            return false;
        }
        let Some(plain) = plain(path) else {
            return false;
        };
        let rules = self.rules(host);
        let find = |path: &str| rules.iter().find(|rule| rule.path.matches(path));
        let guard = find(&plain).filter(|rule| rule.is_guard());
        guard.is_some_and(|guard| find(path).is_none_or(|found| !Arc::ptr_eq(found, guard)))
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
        if !self.suffixes.is_empty()
            && let Some(rules) = suffixes(host).find_map(|suffix| self.suffixes.get(suffix))
        {
            return rules;
        }
        &self.any
    }
}

/// A rule with what decides between rules.
struct Ranked {
    priority: i32,
    host: HostPattern,
    rule: Arc<Rule>,
}

/// Every rule that can match a host of which `pattern` is the most specific pattern there is, in the
/// order of [`plimsoll_model::Route`].
fn in_order(groups: &BTreeMap<&HostPattern, Vec<Ranked>>, pattern: &HostPattern) -> Vec<Arc<Rule>> {
    let mut patterns = vec![pattern.clone()];
    if let HostPattern::Exact(text) | HostPattern::Suffix(text) = pattern {
        let shorter = suffixes(text).map(|suffix| HostPattern::Suffix(suffix.into()));
        patterns.extend(shorter);
        patterns.push(HostPattern::Any);
    }
    let mut ranked: Vec<&Ranked> = patterns
        .iter()
        .filter_map(|pattern| groups.get(pattern))
        .flatten()
        .collect();
    ranked.sort_by(|a, b| {
        b.priority
            .cmp(&a.priority)
            .then_with(|| specificity(&b.host).cmp(&specificity(&a.host)))
            .then_with(|| b.rule.path.as_str().len().cmp(&a.rule.path.as_str().len()))
            .then_with(|| a.rule.name.cmp(&b.rule.name))
    });
    ranked
        .into_iter()
        .map(|ranked| ranked.rule.clone())
        .collect()
}

/// What a name ends in, from each of its dots but a first character on, the longest first.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.bytes().enumerate().skip(1).filter(|(_, b)| *b == b'.');
    dots.filter_map(|(dot, _)| name.get(dot..))
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
            http: None,
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
        let router = Router::new(&routes, &all, &HashMap::new(), None);
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
            found(
                &Router::new(&routes, &all, &HashMap::new(), None),
                "b.org",
                "/x"
            ),
            "none"
        );
        assert_eq!(
            found(
                &Router::new(&routes, &all, &HashMap::new(), None),
                "a.org",
                "/"
            ),
            "none"
        );
        let catch_all = all.values().next().cloned();
        assert_eq!(
            found(
                &Router::new(&routes, &all, &HashMap::new(), catch_all),
                "b.org",
                "/"
            ),
            "a"
        );
    }

    proptest::proptest! {
        #[test]
        fn the_first_of_all_that_match_is_found(
            routes in proptest::collection::vec((
                proptest::sample::select(vec![
                    "*", "a.org", "b.a.org", "*.a.org", "*.b.a.org", "*.org", "c.com", "*.com",
                ]),
                proptest::sample::select(vec!["/", "/x", "/x/y", "/z"]),
                -1..2,
            ), 0..12),
            host in proptest::sample::select(vec![
                "a.org", "b.a.org", "x.b.a.org", "c.com", "d.c.com", "org", "", "z",
            ]),
            path in proptest::sample::select(vec!["/", "/x", "/x/y/z", "/zz"]),
        ) {
            let all = services(&["a"]);
            let routes: Vec<Arc<Route>> = (routes.iter().enumerate())
                .map(|(i, (host, path, p))| route(&format!("r{i:02}"), host, path, *p, &[("a", 1)]))
                .collect();
            let expected = (routes.iter())
                .filter(|r| r.hosts[0].matches(host) && r.path.matches(path))
                .min_by_key(|r| (
                    -r.priority,
                    std::cmp::Reverse(specificity(&r.hosts[0])),
                    std::cmp::Reverse(r.path.as_str().len()),
                    r.name.clone(),
                ))
                .map_or("none", |r| r.name.as_str());
            let router = Router::new(&routes, &all, &HashMap::new(), None);
            proptest::prop_assert_eq!(found(&router, host, path), expected);
        }
    }

    #[test]
    fn services_of_a_route_get_their_shares_evenly() {
        let all = services(&["a", "b"]);
        let router = Router::new(
            &[route("r", "*", "/", 0, &[("a", 1), ("b", 9)])],
            &all,
            &HashMap::new(),
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
