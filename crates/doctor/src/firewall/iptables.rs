//! What `iptables-save` writes (iptables-extensions(8)).

use super::{Chain, Hook, Rule, Test, Tool, Verdict, protocol};

/// Reads it. `command` is what changes these rules: `iptables`, or one of its kin.
pub fn read(text: &str, command: &str, v4: bool) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else {
                continue;
            };
            chains.push(Chain {
                tool: Tool::Iptables(command.to_owned()),
                family: if v4 { "ip" } else { "ip6" }.to_owned(),
                table: table.clone(),
                name: name.to_owned(),
                hook: hook(name),
                priority: priority(&table),
                drops: policy == "DROP",
                rules: Vec::new(),
            });
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let Some((name, rest)) = rest.split_once(' ') else {
                continue;
            };
            let chain = (chains.iter_mut()).find(|c| c.name == name && c.table == table);
            if let Some(chain) = chain {
                chain.rules.push(rule(line, rest));
            }
        }
    }
    chains
}

fn hook(name: &str) -> Option<Hook> {
    match name {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "FORWARD" => Some(Hook::Forward),
        "POSTROUTING" => Some(Hook::Postrouting),
        _ => None,
    }
}

/// `NF_IP_PRI_…`.
fn priority(table: &str) -> i64 {
    match table {
        "raw" => -300,
        "mangle" => -150,
        "security" => 50,
        _ => 0,
    }
}

fn rule(line: &str, rest: &str) -> Rule {
    let mut rule = Rule {
        text: line.to_owned(),
        tests: Vec::new(),
        verdict: Verdict::Continue,
    };
    let mut not = false;
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default().to_owned();
        let test = match word {
            "!" => {
                not = true;
                continue;
            }
            "-i" => Test::In(not, vec![value()]),
            "-o" => Test::Out(not, vec![value()]),
            "-s" => net(value(), |net| Test::Source(not, vec![net])),
            "-d" => net(value(), |net| Test::Destination(not, vec![net])),
            "-p" => protocol(&value()).map_or(Test::Other, |number| Test::Protocol(not, number)),
            "--ctstate" | "--state" => {
                let states = value().to_lowercase();
                Test::State(not, states.split(',').map(str::to_owned).collect())
            }
            // Named before what it is asked for.
            "-m" => match value().as_str() {
                "conntrack" | "state" | "comment" | "tcp" | "udp" => continue,
                _ => Test::Other,
            },
            "--comment" => {
                skip_text(&mut words);
                continue;
            }
            "-j" => {
                rule.verdict = verdict(&value(), false);
                // The rest are options of the target.
                break;
            }
            "-g" => {
                rule.verdict = verdict(&value(), true);
                break;
            }
            _ => Test::Other,
        };
        not = false;
        rule.tests.push(test);
    }
    rule
}

/// A comment is one word, or several in quotation marks.
fn skip_text<'a>(words: &mut impl Iterator<Item = &'a str>) {
    let Some(first) = words.next() else {
        return;
    };
    let ends = |word: &str| word.ends_with('"') && !word.ends_with("\\\"");
    if first.starts_with('"') && !(first.len() > 1 && ends(first)) {
        words.find(|word| ends(word));
    }
}

fn net(text: String, test: impl FnOnce(ipnet::IpNet) -> Test) -> Test {
    super::parse_net(&text).map_or(Test::Other, test)
}

fn verdict(target: &str, goes: bool) -> Verdict {
    match target {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        // They do something and go on.
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "NOTRACK" | "TRACE" | "SET"
        | "TOS" | "DSCP" | "CHECKSUM" | "CLASSIFY" | "AUDIT" | "TEE" => Verdict::Continue,
        "QUEUE" | "NFQUEUE" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "TPROXY" => {
            Verdict::Other
        }
        name if goes => Verdict::Goto(name.to_owned()),
        name => Verdict::Jump(name.to_owned()),
    }
}
