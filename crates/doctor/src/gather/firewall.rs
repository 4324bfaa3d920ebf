//! Has the tools that know write down the rules of the calling thread's namespace.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::firewall::{Chain, Firewall, Tool, iptables, nft};

/// Tables that `iptables` has.
const TABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

/// All rules that can be read.
pub(super) fn read() -> Firewall {
    let mut all = Firewall::default();
    let kind = ran("iptables", &["--version"]).unwrap_or_default();
    match ran("nft", &["-j", "list", "ruleset"]).and_then(|text| nft::read(&text)) {
        Ok(chains) => all.chains = chains,
        Err(why) => all.untold.push(format!("rules of nftables: nft {why}")),
    }
    let is_theirs = |chain: &Chain| {
        matches!(chain.family.as_str(), "ip" | "ip6") && TABLES.contains(&chain.table.as_str())
    };
    // What iptables has written nft cannot always read.
    if all.chains.iter().any(is_theirs) || !all.untold.is_empty() {
        let (save, command) = match kind.contains("nf_tables") {
            true => ("iptables-save", "iptables"),
            false => ("iptables-nft-save", "iptables-nft"),
        };
        match both(save, command) {
            Ok(chains) => {
                all.chains
                    .retain(|chain| !chains.iter().any(|other| is_same(chain, other)));
                all.chains.extend(chains);
            }
            // Then what nft could make of them has to do.
            Err(_) if all.untold.is_empty() => {}
            Err(why) => all.untold.push(format!("rules of iptables: {save} {why}")),
        }
    }
    match has_legacy() {
        Ok(false) => {}
        Ok(true) => {
            let (save, command) = match kind.contains("legacy") {
                true => ("iptables-save", "iptables"),
                false => ("iptables-legacy-save", "iptables-legacy"),
            };
            match both(save, command) {
                Ok(chains) => all.chains.extend(chains),
                Err(why) => all.untold.push(format!("rules of iptables: {save} {why}")),
            }
        }
        Err(why) => all.untold.push(why),
    }
    all
}

/// Whether two readings are of the same chain's table.
fn is_same(nft: &Chain, iptables: &Chain) -> bool {
    nft.tool == Tool::Nft && nft.family == iptables.family && nft.table == iptables.table
}

/// Whether the old tables of iptables are in use: asking `iptables-legacy` would make them.
fn has_legacy() -> Result<bool, String> {
    let mut any = false;
    for file in ["ip_tables_names", "ip6_tables_names"] {
        match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => any |= !text.trim().is_empty(),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("whether iptables-legacy has rules: {error}")),
        }
    }
    Ok(any)
}

fn both(save: &str, command: &str) -> Result<Vec<Chain>, String> {
    let mut chains = iptables::read(&ran(save, &[])?, command, true);
    let v6 = save.replacen("iptables", "ip6tables", 1);
    // Not every kernel has IPv6.
    if let Ok(text) = ran(&v6, &[]) {
        let command = command.replacen("iptables", "ip6tables", 1);
        chains.extend(iptables::read(&text, &command, false));
    }
    Ok(chains)
}

/// What a program writes; the error is how it failed, to be put behind its name.
fn ran(program: &str, args: &[&str]) -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(args)
        // Where users without privileges do not look.
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "is not installed".to_owned(),
        _ => format!("cannot be run: {error}"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .next()
        .unwrap_or("it fails and does not say why");
    Err(format!("says: {}", said.trim()))
}
