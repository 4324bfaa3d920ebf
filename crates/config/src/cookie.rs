//! `cookie` of a service.

use std::time::Duration;

use plimsoll_model::{Cookie, CookieMode};

use crate::fields::{Faults, Node};
use crate::schema;

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Cookie> {
    let expected = "the name of a cookie, or a table such as { name = \"SRV\", mode = \"prefix\" }";
    let cookie = if node.is_string() {
        Cookie::new(node.string(expected, faults)?.into(), CookieMode::Insert)
    } else {
        from_table(node, expected, faults)?
    };
    if let Err(error) = cookie.validate() {
        faults.push(node.fault(error.0).expected(expected));
        return None;
    }
    Some(cookie)
}

fn from_table(node: &Node<'_>, expected: &str, faults: &mut Faults) -> Option<Cookie> {
    let table = node.table(expected, faults)?;
    table.check_keys(schema::COOKIE, faults);
    let mode = table
        .get("mode")
        .and_then(|node| node.word("mode", &CookieMode::NAMES, faults))
        .unwrap_or_default();
    let name = table.need("name", "name = \"SRV\" or another", faults)?;
    let name = name.string("the name of a cookie", faults)?;
    let mut cookie = Cookie::new(name.into(), mode);
    for (key, value) in [
        ("indirect", &mut cookie.indirect),
        ("nocache", &mut cookie.nocache),
        ("httponly", &mut cookie.httponly),
        ("secure", &mut cookie.secure),
    ] {
        if let Some(read) = table.get(key).and_then(|node| node.boolean(faults)) {
            *value = read;
        }
    }
    let second = Duration::from_secs(1);
    for (key, value) in [
        ("maxidle", &mut cookie.maxidle),
        ("maxlife", &mut cookie.maxlife),
    ] {
        let node = table.get(key);
        *value = node.and_then(|node| node.duration(second, faults));
    }
    let mut text = |key, what| Some(table.get(key)?.string(what, faults)?.into());
    cookie.domain = text("domain", "a domain, such as \"example.com\"");
    if let Some(key) = text("key", "a secret that the director alone knows") {
        cookie.key = key;
    }
    Some(cookie)
}
