//! Rules that drop packets, as far as they can be told from outside: what `nft` and `iptables-save`
//! write, read into chains, and packets walked through them.
//!
//! A rule is understood or it is not. A packet counts as dropped only when every rule on its way is
//! understood, so a firewall that is too clever for this is never accused.

pub mod iptables;
pub mod nft;
mod walk;

use ipnet::IpNet;

pub use walk::{Dropped, Packet, Verdict as Walked, walk};

/// All rules of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Chains, those that the kernel enters by itself and those that others jump to.
    pub chains: Vec<Chain>,
    /// What could not be read, and why.
    pub untold: Vec<String>,
}

/// Who wrote a chain, and so who can change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `nft`.
    Nft,
    /// `iptables` or one of its kin: the command.
    Iptables(String),
}

/// Where in the kernel a chain is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets that have come in.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets on their way through.
    Forward,
    /// Packets that leave.
    Postrouting,
}

/// Rules that are gone through one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Who wrote it.
    pub tool: Tool,
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is entered by the kernel; none if others jump to it.
    pub hook: Option<Hook>,
    /// Chains of one hook are entered in this order.
    pub priority: i64,
    /// Whether it drops what comes to its end.
    pub drops: bool,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As its tool writes it.
    pub text: String,
    /// What all has to hold.
    pub tests: Vec<Test>,
    /// What is done then.
    pub verdict: Verdict,
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The interface by which the packet came.
    In(Not, Vec<String>),
    /// The interface by which it leaves.
    Out(Not, Vec<String>),
    /// Its source.
    Source(Not, Vec<IpNet>),
    /// Its destination.
    Destination(Not, Vec<IpNet>),
    /// What it carries, by its number.
    Protocol(Not, u8),
    /// What connection tracking says of it.
    State(Not, Vec<String>),
    /// Anything else.
    Other,
}

/// Whether a test is turned round.
pub type Not = bool;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; this chain is done with.
    Accept,
    /// It ends here, told or not.
    Drop,
    /// It goes back to where the jump was.
    Return,
    /// It goes through another chain, and comes back.
    Jump(String),
    /// It goes through another chain, and does not come back here.
    Goto(String),
    /// The next rule.
    Continue,
    /// It cannot be told.
    Other,
}

impl Chain {
    /// Whether packets of a family of addresses pass it.
    pub(crate) fn takes(&self, v4: bool) -> bool {
        match self.family.as_str() {
            "ip" => v4,
            "ip6" => !v4,
            "inet" => true,
            _ => false,
        }
    }

    /// The command that lets packets pass which have this source or destination, before all other
    /// rules of the chain.
    pub fn pass(&self, source: Option<IpNet>, destination: Option<IpNet>) -> String {
        let v4 = source
            .or(destination)
            .is_none_or(|net| net.addr().is_ipv4());
        match &self.tool {
            Tool::Nft => {
                let family = if v4 { "ip" } else { "ip6" };
                let mut text = format!(
                    "nft insert rule {} {} {}",
                    self.family, self.table, self.name
                );
                for (word, net) in [("saddr", source), ("daddr", destination)] {
                    if let Some(net) = net {
                        text.push_str(&format!(" {family} {word} {}", short(net)));
                    }
                }
                text + " accept"
            }
            Tool::Iptables(command) => {
                let mut text = format!("{command} -t {} -I {}", self.table, self.name);
                for (word, net) in [("-s", source), ("-d", destination)] {
                    if let Some(net) = net {
                        text.push_str(&format!(" {word} {}", short(net)));
                    }
                }
                text + " -j ACCEPT"
            }
        }
    }

    /// What people call it.
    pub fn title(&self) -> String {
        match &self.tool {
            Tool::Nft => format!("nftables {} {} {}", self.family, self.table, self.name),
            Tool::Iptables(_) if self.family == "ip6" => {
                format!("ip6tables {} {}", self.table, self.name)
            }
            Tool::Iptables(_) => format!("iptables {} {}", self.table, self.name),
        }
    }
}

/// A network; a single address without its length.
fn short(net: IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

/// A network, or a single address.
fn parse_net(text: &str) -> Option<IpNet> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single)
}

/// The number of a protocol by its name; none if it is not known here.
fn protocol(name: &str) -> Option<u8> {
    let known = [
        ("icmp", 1),
        ("ipencap", 4),
        ("ipv4", 4),
        ("tcp", 6),
        ("udp", 17),
        ("ipv6", 41),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("icmpv6", 58),
        ("ipv6-icmp", 58),
        ("sctp", 132),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests;
