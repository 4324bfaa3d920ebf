//! What the model reads from a text, it writes as a text that it reads as the same.
//!
//! On stable: `cargo fuzz run -s none listen -- -max_total_time=60`.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use plimsoll_model::{BackendAddr, HostPattern, Listen, Name, PathPrefix};

fuzz_target!(|text: &str| {
    if let Some(listen) = round::<Listen>(text) {
        assert!(listen.conflicts(&listen));
    }
    if let Some(addr) = round::<BackendAddr>(text) {
        assert!(addr.socket_addr(80).is_none_or(|addr| addr.port() != 0));
    }
    round::<HostPattern>(text);
    if let Some(path) = round::<PathPrefix>(text) {
        assert!(path.matches(path.as_str()));
    }
    round::<Name>(text);
    if let Ok(duration) = plimsoll_config::parse_duration(text) {
        let written = plimsoll_config::format_duration(duration);
        assert_eq!(plimsoll_config::parse_duration(&written), Ok(duration));
    }
});

fn round<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = text.parse::<T>().ok()?;
    let written = value.to_string();
    match written.parse::<T>() {
        Ok(again) => assert_eq!(value, again, "{text:?} as {written:?}"),
        Err(_) => panic!("{text:?} as {written:?}"),
    }
    Some(value)
}
