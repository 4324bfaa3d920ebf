//! What `nft -j list ruleset` writes (libnftables-json(5)).

use serde_json::{Value, json};

use super::{Chain, Hook, Rule, Test, Tool, Verdict, parse_net, protocol};

/// Reads it.
///
/// # Errors
/// It is not such a text.
pub fn read(text: &str) -> Result<Vec<Chain>, String> {
    let all: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = all.get("nftables").and_then(Value::as_array);
    let list = list.ok_or_else(|| "it has no list `nftables`".to_owned())?;
    let mut chains: Vec<Chain> = Vec::new();
    for item in list {
        if let Some(chain) = item.get("chain") {
            chains.push(read_chain(chain));
        } else if let Some(rule) = item.get("rule") {
            let is = |key: &str, value: &str| text_of(rule, key) == value;
            let chain = chains.iter_mut().find(|chain| {
                is("family", &chain.family) && is("table", &chain.table) && is("chain", &chain.name)
            });
            if let Some(chain) = chain {
                chain.rules.extend(read_rule(rule));
            }
        }
    }
    Ok(chains)
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn read_chain(chain: &Value) -> Chain {
    Chain {
        tool: Tool::Nft,
        family: text_of(chain, "family").to_owned(),
        table: text_of(chain, "table").to_owned(),
        name: text_of(chain, "name").to_owned(),
        hook: match text_of(chain, "hook") {
            "prerouting" => Some(Hook::Prerouting),
            "input" => Some(Hook::Input),
            "forward" => Some(Hook::Forward),
            "postrouting" => Some(Hook::Postrouting),
            _ => None,
        }
        // What translates addresses drops nothing.
        .filter(|_| text_of(chain, "type") != "nat"),
        priority: chain.get("prio").and_then(Value::as_i64).unwrap_or(0),
        drops: text_of(chain, "policy") == "drop",
        rules: Vec::new(),
    }
}

/// A rule; one for each entry of a map of verdicts.
fn read_rule(rule: &Value) -> Vec<Rule> {
    let mut read = Rule {
        text: String::new(),
        tests: Vec::new(),
        verdict: Verdict::Continue,
    };
    let expressions = rule.get("expr").and_then(Value::as_array);
    let mut words = Vec::new();
    for expression in expressions.into_iter().flatten() {
        let Some((kind, value)) = expression.as_object().and_then(|o| o.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => {
                let test = test(value);
                words.push(words_of(value));
                read.tests.push(test);
            }
            "counter" | "log" | "mangle" | "notrack" => {}
            "accept" => read.verdict = Verdict::Accept,
            "drop" | "reject" => read.verdict = Verdict::Drop,
            "return" => read.verdict = Verdict::Return,
            "jump" => read.verdict = Verdict::Jump(text_of(value, "target").to_owned()),
            "goto" => read.verdict = Verdict::Goto(text_of(value, "target").to_owned()),
            "vmap" => match by_map(&read, value) {
                Some(rules) => return rules,
                None => read.verdict = Verdict::Other,
            },
            // Limits and the like let some packets pass.
            "limit" | "xt" | "quota" | "connlimit" => read.tests.push(Test::Other),
            _ => read.verdict = Verdict::Other,
        }
        if matches!(kind.as_str(), "accept" | "drop" | "reject" | "return") {
            words.push(kind.clone());
        }
    }
    read.text = words.join(" ");
    vec![read]
}

/// The rules that a map of verdicts stands for, such as `ct state vmap { invalid : drop }`.
fn by_map(rule: &Rule, map: &Value) -> Option<Vec<Rule>> {
    let entries = map.get("data")?.get("set")?.as_array()?;
    let each = entries.iter().map(|entry| {
        let [right, verdict] = entry.as_array()?.as_slice() else {
            return None;
        };
        let is = json!({"op": "==", "left": map.get("key")?, "right": right});
        let (verdict, target) = verdict.as_object()?.iter().next()?;
        let mut rule = rule.clone();
        rule.tests.push(test(&is));
        rule.text = format!("{} {verdict}", words_of(&is));
        rule.verdict = match verdict.as_str() {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "return" => Verdict::Return,
            "jump" => Verdict::Jump(text_of(target, "target").to_owned()),
            "goto" => Verdict::Goto(text_of(target, "target").to_owned()),
            _ => Verdict::Continue,
        };
        Some(rule)
    });
    each.collect()
}

/// A match as `nft` would write it, nearly.
fn words_of(value: &Value) -> String {
    let left = match left(value) {
        Some((of, key)) => format!("{of} {key}"),
        None => "…".to_owned(),
    };
    let op = match text_of(value, "op") {
        "!=" => " !=",
        _ => "",
    };
    let right = texts(value.get("right").unwrap_or(&Value::Null));
    let right = right.map_or_else(|| "…".to_owned(), |texts| texts.join(","));
    format!("{left}{op} {right}").replacen("meta ", "", 1)
}

/// What is looked at: `meta iifname`, `ip saddr`, `ct state`.
fn left(value: &Value) -> Option<(&str, &str)> {
    let left = value.get("left")?;
    if let Some(meta) = left.get("meta") {
        return Some(("meta", meta.get("key")?.as_str()?));
    }
    if let Some(ct) = left.get("ct") {
        return Some(("ct", ct.get("key")?.as_str()?));
    }
    let payload = left.get("payload")?;
    Some((
        payload.get("protocol")?.as_str()?,
        payload.get("field")?.as_str()?,
    ))
}

fn test(value: &Value) -> Test {
    let not = match text_of(value, "op") {
        "==" | "in" => false,
        "!=" => true,
        _ => return Test::Other,
    };
    let (Some(left), Some(right)) = (left(value), value.get("right")) else {
        return Test::Other;
    };
    let Some(right) = texts(right) else {
        return Test::Other;
    };
    let nets = || {
        right
            .iter()
            .map(|text| parse_net(text))
            .collect::<Option<Vec<_>>>()
    };
    let addresses = |test: fn(bool, Vec<ipnet::IpNet>) -> Test| {
        nets().map_or(Test::Other, |nets| test(not, nets))
    };
    match left {
        ("meta", "iifname" | "iif") => Test::In(not, right),
        ("meta", "oifname" | "oif") => Test::Out(not, right),
        ("ip" | "ip6", "saddr") => addresses(Test::Source),
        ("ip" | "ip6", "daddr") => addresses(Test::Destination),
        ("meta", "l4proto") | ("ip", "protocol") | ("ip6", "nexthdr") => match right.as_slice() {
            [name] => protocol(name).map_or(Test::Other, |number| Test::Protocol(not, number)),
            _ => Test::Other,
        },
        ("ct", "state") => Test::State(not, right),
        _ => Test::Other,
    }
}

/// What something is compared with: one text, or several; none if it is anything else, such as a set
/// with a name.
fn texts(value: &Value) -> Option<Vec<String>> {
    if let Some(text) = value.as_str() {
        return (!text.starts_with('@')).then(|| vec![text.to_owned()]);
    }
    if let Some(prefix) = value.get("prefix") {
        let (addr, len) = (prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?);
        return Some(vec![format!("{addr}/{len}")]);
    }
    let list = value.as_array().or_else(|| value.get("set")?.as_array())?;
    let texts: Option<Vec<Vec<String>>> = list.iter().map(texts).collect();
    Some(texts?.concat())
}
