//! What other balancers call it. Such words are not near ours, so they are looked up before the
//! nearest is searched.

use super::value::cut;

/// Their keys, and ours for the same.
const KEYS: [(&str, &str); 8] = [
    ("hostname", "host"),
    ("virtual-host", "host"),
    ("domain", "host"),
    ("domains", "host"),
    ("rule", "host"),
    ("healthcheck", "check"),
    ("health", "check"),
    ("timeouts.drain", "drain"),
];

/// Their keys for what there is not, and what to do.
const WITHOUT: [(&[&str], &str); 4] = [
    (
        &["tls", "https", "ssl", "cert", "certs", "certresolver"],
        "this version has no TLS: put something before it that terminates it",
    ),
    (
        &["entrypoint", "entrypoints"],
        "there are no entry points: key `listen` says where a service listens",
    ),
    (
        &["sticky"],
        "key `cookie` names a cookie by which clients stay on their container, key `persistence` \
         says for how long they do by their address",
    ),
    (
        &["middleware", "middlewares"],
        "there are no middlewares: keys such as `redirect`, `strip-prefix` and `request-headers.set` are \
         the service's own",
    ),
];

/// Their schedulers, and ours.
pub(crate) const SCHEDULERS: [(&str, &str); 18] = [
    ("roundrobin", "wrr"),
    ("round_robin", "wrr"),
    ("round-robin", "wrr"),
    ("leastconn", "wlc"),
    ("least_conn", "wlc"),
    ("source", "sh"),
    ("ip_hash", "sh"),
    ("static-rr", "wrr"),
    ("p2c", "twos"),
    ("least_request", "twos"),
    ("least_time", "ewma"),
    ("leasttime", "ewma"),
    ("peak_ewma", "ewma"),
    ("hrw", "mh"),
    ("maglev", "mh"),
    ("ring_hash", "ring"),
    ("consistent", "ring"),
    ("failover", "fo"),
];

/// Our key for one of theirs.
pub(crate) fn key(theirs: &str) -> Option<&'static str> {
    let theirs = plain(theirs);
    let found = KEYS.iter().find(|(key, _)| *key == theirs);
    found.map(|(_, ours)| *ours)
}

/// What to say of one of their keys that asks for what there is not.
pub(crate) fn without(theirs: &str) -> Option<&'static str> {
    let theirs = plain(theirs);
    let found = WITHOUT
        .iter()
        .find(|(keys, _)| keys.contains(&theirs.as_str()));
    found.map(|(_, why)| *why)
}

fn plain(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', "-")
}

/// The labels that say what a rule of Traefik says of hosts and paths; none if a value is no rule.
pub(crate) fn rule(text: &str, prefix: &str) -> Option<String> {
    let (word, _) = text.split_once('(')?;
    let word = word.trim_start_matches('!').to_ascii_lowercase();
    if !matches!(
        &*word,
        "host" | "hostregexp" | "hostsni" | "path" | "pathprefix"
    ) {
        return None;
    }
    let quote = |c: char| matches!(c, '`' | '"' | '\'');
    let said = text.split(quote).skip(1).step_by(2);
    let (paths, hosts): (Vec<&str>, Vec<&str>) = said.partition(|part| part.starts_with('/'));
    let mut labels = Vec::new();
    // A regular expression is no host.
    if !hosts.is_empty() && !text.to_ascii_lowercase().contains("hostregexp") {
        labels.push(format!("{prefix}.host={}", cut(&hosts.join(","))));
    }
    if let Some(path) = paths.first() {
        labels.push(format!("{prefix}.path={}", cut(path)));
    }
    Some(match labels.is_empty() {
        true => "rules are not read: list the names alone".into(),
        false => format!("rules are not read: write {}", labels.join(" and ")),
    })
}
