//! Which container of the engine this process runs in, if any.
//!
//! The kernel does not say it. What it does say gives ids that may be ours; the engine knows which
//! of them is.

use super::view::Whereabouts;
use super::wire::{Inspect, Network};

/// So many ids are asked for at most.
const MAX_CANDIDATES: usize = 8;

/// What the system says about this process; a text that cannot be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// `/proc/self/mountinfo` (proc(5)).
    pub mountinfo: String,
    /// `/proc/self/cgroup` (cgroups(7)).
    pub cgroup: String,
    /// The host name.
    pub hostname: String,
    /// `/proc/self/net/dev` (proc(5)): the network devices.
    pub devices: String,
}

impl Traces {
    /// Reads them.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            mountinfo: text("/proc/self/mountinfo"),
            cgroup: text("/proc/self/cgroup"),
            hostname: text("/proc/sys/kernel/hostname").trim().to_owned(),
            devices: text("/proc/self/net/dev"),
        }
    }

    /// Ids that our own container may have, the likeliest first, each once.
    pub fn candidates(&self) -> Vec<String> {
        let mounts = self.mountinfo.lines().filter_map(of_mount);
        // A container in a container has both names in the path; the last one is ours.
        let paths = self
            .cgroup
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2));
        let groups = paths.flat_map(|path| path.rsplit('/').filter_map(of_group));
        // Only a name that the engine made up says which container it is.
        let name = is_id(&self.hostname, 12).then_some(self.hostname.as_str());
        let mut found: Vec<String> = Vec::new();
        for id in mounts.chain(groups).chain(name) {
            let known = |other: &String| other.starts_with(id) || id.starts_with(other.as_str());
            if !found.iter().any(known) {
                found.push(id.to_owned());
            }
        }
        found.truncate(MAX_CANDIDATES);
        found
    }

    /// Whether this process runs in the network of the host of the engine that has these networks:
    /// one of their bridges is a device here. The engine makes up a network's id and names the
    /// bridge by it. Addresses would prove nothing: all engines give out the same ones, and an engine
    /// that seems to have the address of one of its containers may be behind a tunnel.
    pub fn has_bridge_of(&self, networks: &[Network]) -> bool {
        let lines = self.devices.lines();
        let names = lines.filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let mut bridges = names.filter_map(|name| name.strip_prefix("br-"));
        let is_of = |id: &str, network: &Network| {
            network.driver == "bridge" && id.len() == 12 && network.id.starts_with(id)
        };
        bridges.any(|id| is_id(id, 12) && networks.iter().any(|network| is_of(id, network)))
    }
}

/// Whether a text has at least so many hexadecimal digits, 64 at most, and nothing else.
fn is_id(text: &str, least: usize) -> bool {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (least..=64).contains(&text.len()) && text.bytes().all(digit)
}

/// The id in a line of mountinfo for one of the files that engines put into every container.
fn of_mount(line: &str) -> Option<&str> {
    let mut fields = line.split(' ');
    let (root, at) = (fields.nth(3)?, fields.next()?);
    if !matches!(at, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
        return None;
    }
    let mut parts = root.rsplit('/');
    parts.next()?;
    let mut id = parts.next()?;
    // Podman keeps them one folder deeper.
    if id == "userdata" {
        id = parts.next()?;
    }
    is_id(id, 64).then_some(id)
}

/// The id in a part of a cgroup's path: `ID`, `docker-ID.scope`, `libpod-ID.scope`, …
fn of_group(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    is_id(id, 64).then_some(id)
}

/// Whether the container that was found for a candidate is the one this process runs in.
pub fn is_own(candidate: &str, found: &Inspect) -> bool {
    found.state.running && is_id(candidate, 12) && found.id.starts_with(candidate)
}

/// Where we run if this is our own container; `shared` is the container whose network it uses by
/// `network_mode: container:ID`.
pub fn whereabouts(own: &Inspect, shared: Option<&Inspect>) -> Whereabouts {
    let with_network = shared.unwrap_or(own);
    if with_network.host_config.network_mode == "host" {
        return Whereabouts::Host;
    }
    let networks = with_network.network_settings.networks.values();
    let ids = networks
        .map(|end| end.network_id.clone())
        .filter(|id| !id.is_empty());
    Whereabouts::Container {
        // Networks are connected to the container that has one.
        name: with_network.display_name().to_owned(),
        networks: ids.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::docker::wire::Endpoint;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn candidates(mountinfo: &str, cgroup: &str, hostname: &str) -> Vec<String> {
        let traces = Traces {
            mountinfo: mountinfo.into(),
            cgroup: cgroup.into(),
            hostname: hostname.into(),
            ..Traces::default()
        };
        traces.candidates()
    }

    #[test]
    fn the_files_of_every_container_name_it() {
        let docker = format!(
            "680 671 8:1 /var/lib/docker/containers/{A}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw\n\
             681 671 8:1 /var/lib/docker/containers/{A}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n\
             682 671 8:1 /var/lib/docker/containers/{B}/mounts/shm /var/lib/docker/containers/{B}/mounts/shm rw - tmpfs shm rw\n"
        );
        assert_eq!(candidates(&docker, "0::/\n", &A[..12]), [A]);
        let nested = format!(
            "1 2 8:1 /docker/volumes/x/_data/containers/{B}/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(candidates(&nested, "", "web"), [B]);
        let podman = format!(
            "1 2 0:35 /containers/overlay-containers/{A}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw\n"
        );
        assert_eq!(candidates(&podman, "", ""), [A]);
    }

    #[test]
    fn cgroups_name_it() {
        let v1 = format!("12:memory:/docker/{A}\n1:name=systemd:/docker/{A}\n");
        assert_eq!(candidates("", &v1, ""), [A]);
        let nested = format!("1:name=systemd:/docker/{A}/docker/{B}\n");
        assert_eq!(candidates("", &nested, ""), [B, A]);
        let v2 = format!("0::/system.slice/docker-{A}.scope\n");
        assert_eq!(candidates("", &v2, ""), [A]);
        let podman = format!("0::/machine.slice/libpod-{B}.scope/container\n");
        assert_eq!(candidates("", &podman, ""), [B]);
        let kube = format!("0::/kubepods.slice/pod1.slice/cri-containerd:{A}\n");
        assert_eq!(candidates("", &kube, ""), [A]);
    }

    #[test]
    fn only_a_host_name_that_the_engine_made_up_counts() {
        assert_eq!(candidates("", "0::/\n", "0123456789ab"), ["0123456789ab"]);
        for name in ["web", "0123456789AB", "0123456789", "cafe", "../containers"] {
            assert_eq!(candidates("", "", name), <[String; 0]>::default(), "{name}");
        }
    }

    #[test]
    fn garbage_names_nothing() {
        let garbage = "\n\n: : :\n1 2 3\n1 2 8:1 / /etc/hostname\n1 2 8:1 hostname /etc/hostname rw\n:::::\n0\n\u{0}é-\n";
        assert_eq!(
            candidates(garbage, garbage, garbage),
            <[String; 0]>::default()
        );
        let many: String = (0..1000).map(|i| format!("1:x:/{i:064}\n")).collect();
        assert_eq!(candidates("", &many, "").len(), MAX_CANDIDATES);
    }

    #[test]
    fn our_container_says_where_we_are() {
        let mut own = Inspect {
            id: A.into(),
            name: "/lb".into(),
            ..Inspect::default()
        };
        own.state.running = true;
        assert!(is_own(A, &own) && is_own(&A[..12], &own));
        assert!(!is_own(B, &own) && !is_own("lb", &own) && !is_own("", &own));
        let end = Endpoint {
            network_id: "n1".into(),
            ..Endpoint::default()
        };
        own.network_settings.networks.insert("front".into(), end);
        let expected = Whereabouts::Container {
            name: "lb".into(),
            networks: BTreeSet::from(["n1".into()]),
        };
        assert_eq!(whereabouts(&own, None), expected);
        let side = Inspect::default();
        assert_eq!(whereabouts(&side, Some(&own)), expected);
        own.host_config.network_mode = "host".into();
        assert_eq!(whereabouts(&own, None), Whereabouts::Host);
        own.state.running = false;
        assert!(!is_own(A, &own));
    }

    #[test]
    fn only_a_bridge_with_the_id_of_a_network_says_that_this_is_the_host() {
        let devices = |name: &str| Traces {
            devices: format!(
                "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    lo: 1 1\n docker0: 0 0\n{name}:0 0\n"
            ),
            ..Traces::default()
        };
        let network = |id: &str, driver: &str| Network {
            id: id.into(),
            driver: driver.into(),
            ..Network::default()
        };
        let networks = [
            network(B, "bridge"),
            network("", "bridge"),
            network(A, "bridge"),
        ];
        assert!(devices("br-aaaaaaaaaaaa").has_bridge_of(&networks));
        for other in [
            "br-cccccccccccc",
            "br-aaaaaaaaaaa",
            "br-",
            "br-lan",
            "aaaaaaaaaaaa",
        ] {
            assert!(!devices(other).has_bridge_of(&networks), "{other}");
        }
        assert!(!devices("br-aaaaaaaaaaaa").has_bridge_of(&[network(A, "macvlan")]));
        assert!(!devices("br-aaaaaaaaaaaa").has_bridge_of(&[]));
        assert!(!Traces::default().has_bridge_of(&networks));
    }
}
