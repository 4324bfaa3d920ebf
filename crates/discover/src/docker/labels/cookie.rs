//! The labels of persistence by a cookie.

use std::time::Duration;

use plimsoll_model::{Cookie, CookieMode};

use super::group::Group;
use super::value::Faults;

/// `plimsoll.cookie` and what it can have beside it.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Cookie> {
    const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];
    let Some(name) = group.get("cookie") else {
        let beside = super::schema::SERVICE.iter().copied();
        let mut beside = beside.filter(|key| key.starts_with("cookie."));
        if let Some(value) = beside.find_map(|key| group.get(key)) {
            let why = format!("it needs label {}.cookie with a name", group.prefix);
            faults.push(value.fault(why));
        }
        return None;
    };
    let mode = group.get("cookie.mode");
    let mode = mode.and_then(|value| value.word(&CookieMode::NAMES, faults));
    let mut cookie = Cookie::new(name.text.into(), mode.unwrap_or_default());
    for (key, truth) in [
        ("cookie.indirect", &mut cookie.indirect),
        ("cookie.nocache", &mut cookie.nocache),
        ("cookie.httponly", &mut cookie.httponly),
        ("cookie.secure", &mut cookie.secure),
    ] {
        let value = group.get(key);
        if let Some(read) = value.and_then(|value| value.word(&BOOLEANS, faults)) {
            *truth = read;
        }
    }
    for (key, time) in [
        ("cookie.maxidle", &mut cookie.maxidle),
        ("cookie.maxlife", &mut cookie.maxlife),
    ] {
        let value = group.get(key);
        *time = value.and_then(|value| value.duration(Duration::from_secs(1), faults));
    }
    let (domain, key) = (group.get("cookie.domain"), group.get("cookie.key"));
    // Each fault is said of the label that it is in.
    let mut sound = cookie.validate().map_err(|e| name.fault(e.0));
    if let (Ok(()), Some(value)) = (&sound, domain) {
        cookie.domain = Some(value.text.into());
        sound = cookie.validate().map_err(|e| value.fault(e.0));
    }
    if let (Ok(()), Some(value)) = (&sound, key) {
        cookie.key = value.text.into();
        sound = cookie.validate().map_err(|e| value.fault(e.0));
    }
    sound.map_err(|fault| faults.push(fault)).ok()?;
    Some(cookie)
}
