//! Containers of all kinds, and what is made of them.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_discover::docker::entries::entries;
use plimsoll_discover::docker::view::{Settings, Standing, View, Whereabouts};
use plimsoll_discover::docker::wire::{Endpoint, Inspect, Network, PortBinding};
use plimsoll_model::{Backend, Entry, Item, Route, Service, Status};

/// What is around containers.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) whereabouts: Whereabouts,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) shared: Option<Inspect>,
}

impl World {
    /// On the host of an engine with bridge networks `bridge`, `back` and `front`, a macvlan `lan`
    /// and an overlay `mesh`, whose ids are `id-NAME`.
    pub(crate) fn new() -> Self {
        let networks = [
            ("bridge", "bridge"),
            ("back", "bridge"),
            ("front", "bridge"),
            ("lan", "macvlan"),
            ("mesh", "overlay"),
        ];
        let networks = networks.map(|(name, driver)| {
            let network = Network {
                id: format!("id-{name}"),
                name: name.into(),
                driver: driver.into(),
                scope: "local".into(),
            };
            (network.id.clone(), network)
        });
        Self {
            settings: Settings {
                source: "docker:unix:///var/run/docker.sock".into(),
                http: "*:80/http".parse().unwrap(),
            },
            whereabouts: Whereabouts::Host,
            networks: networks.into(),
            shared: None,
        }
    }

    /// In a container `lb` in these networks.
    pub(crate) fn inside(networks: &[&str]) -> Self {
        let ids: BTreeSet<String> = networks.iter().map(|name| format!("id-{name}")).collect();
        Self {
            whereabouts: Whereabouts::Container {
                name: "lb".into(),
                networks: ids,
            },
            ..Self::new()
        }
    }

    /// On another machine than the engine, which is at 192.0.2.1.
    pub(crate) fn remote() -> Self {
        Self {
            whereabouts: Whereabouts::Remote {
                host: "192.0.2.1".parse().unwrap(),
            },
            ..Self::new()
        }
    }

    pub(crate) fn with_standing(&self, container: &Inspect, standing: &Standing) -> Vec<Entry> {
        let view = View {
            settings: &self.settings,
            whereabouts: &self.whereabouts,
            networks: &self.networks,
            shared: self.shared.as_ref(),
        };
        entries(container, standing, &view)
    }

    /// What is made of a container that is ready.
    pub(crate) fn made(&self, container: &Inspect) -> Made {
        Made(self.with_standing(container, &Standing::Serves(Status::default())))
    }
}

/// A container `web` on the network `bridge` with the address 172.17.0.2, created in 2024.
pub(crate) fn container() -> Inspect {
    let mut container = Inspect {
        id: "0123456789abcdef".into(),
        name: "/web".into(),
        created: "2024-01-02T03:04:05Z".into(),
        ..Inspect::default()
    };
    container.host_config.network_mode = "bridge".into();
    container.connect("bridge", "172.17.0.2");
    container
}

/// The same with an exposed port 8080 and these labels.
pub(crate) fn labelled(labels: &[(&str, &str)]) -> Inspect {
    let mut container = container();
    container.expose(&["8080/tcp"]);
    container.label_with(labels);
    container
}

/// What makes containers.
pub(crate) trait Change {
    fn expose(&mut self, ports: &[&str]);
    fn label_with(&mut self, labels: &[(&str, &str)]);
    fn set(&mut self, env: &[&str]);
    /// Puts it into a network, with an IPv4 or IPv6 address or none.
    fn connect(&mut self, network: &str, address: &str);
    fn publish(&mut self, port: &str, bindings: &[(&str, &str)]);
}

impl Change for Inspect {
    fn expose(&mut self, ports: &[&str]) {
        let ports = ports.iter().map(ToString::to_string);
        self.config.exposed_ports.extend(ports);
    }

    fn label_with(&mut self, labels: &[(&str, &str)]) {
        let pairs = labels.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        self.config.labels.extend(pairs);
    }

    fn set(&mut self, env: &[&str]) {
        self.config.env.extend(env.iter().map(ToString::to_string));
    }

    fn connect(&mut self, network: &str, address: &str) {
        let mut endpoint = Endpoint {
            network_id: format!("id-{network}"),
            ..Endpoint::default()
        };
        match address.contains(':') {
            true => endpoint.global_ipv6_address = address.into(),
            false => endpoint.ip_address = address.into(),
        }
        let networks = &mut self.network_settings.networks;
        networks.insert(network.into(), endpoint);
    }

    fn publish(&mut self, port: &str, bindings: &[(&str, &str)]) {
        let bindings = bindings.iter().map(|(ip, port)| PortBinding {
            host_ip: ip.to_string(),
            host_port: port.to_string(),
        });
        let ports = &mut self.network_settings.ports;
        ports.insert(port.into(), Some(bindings.collect()));
    }
}

/// Entries, looked at.
pub(crate) struct Made(pub(crate) Vec<Entry>);

impl Made {
    pub(crate) fn services(&self) -> Vec<&Service> {
        let items = self.0.iter().filter_map(|entry| match &entry.item {
            Item::Service(service) => Some(&**service),
            _ => None,
        });
        items.collect()
    }

    /// The only service.
    pub(crate) fn service(&self) -> &Service {
        assert_eq!(self.invalid(), Vec::<(&str, &str)>::new());
        let services = self.services();
        assert_eq!(services.len(), 1, "{:?}", self.0);
        services[0]
    }

    /// The only backend of the only service.
    pub(crate) fn backend(&self) -> &Backend {
        let service = self.service();
        assert_eq!(service.backends.len(), 1, "{:?}", self.0);
        service.backends.values().next().unwrap()
    }

    pub(crate) fn routes(&self) -> Vec<&Route> {
        let items = self.0.iter().filter_map(|entry| match &entry.item {
            Item::Route(route) => Some(&**route),
            _ => None,
        });
        items.collect()
    }

    /// The names of the services and of the routes.
    pub(crate) fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let services = self.services().into_iter().map(|s| s.name().as_str());
        let routes = self.routes().into_iter().map(|r| r.name.as_str());
        (services.collect(), routes.collect())
    }

    /// Subject and reason of what is put aside.
    pub(crate) fn invalid(&self) -> Vec<(&str, &str)> {
        let items = self.0.iter().filter_map(|entry| match &entry.item {
            Item::Invalid {
                subject, reason, ..
            } => Some((&**subject, &**reason)),
            _ => None,
        });
        items.collect()
    }

    /// The only reason to put something aside.
    pub(crate) fn reason(&self) -> &str {
        let invalid = self.invalid();
        assert_eq!(invalid.len(), 1, "{:?}", self.0);
        invalid[0].1
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|entry| entry.key.as_str()).collect()
    }
}
