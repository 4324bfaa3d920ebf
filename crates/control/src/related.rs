//! What is put aside that may be why something goes nowhere.

use std::collections::BTreeSet;
use std::time::Instant;

use plimsoll_model::{Name, Origin, Subject};

use crate::Aside;
use crate::control::Control;
use crate::status::AsideStatus;

impl Control {
    /// What is put aside of a service.
    pub fn asides_of_service(&self, now: Instant, name: &Name) -> Vec<AsideStatus> {
        let subject = Subject::Service(name.clone()).to_string();
        // A backend is one of its service.
        self.asides_where(now, |aside| aside.subject.ends_with(&subject))
    }

    /// What is put aside and may be what somebody asks for by a host: what names it, what comes
    /// from where a route of it comes from, and what is called as a part of it is, be it by
    /// chance.
    pub fn asides_of_host(&self, now: Instant, host: &str) -> Vec<AsideStatus> {
        let host = host.to_ascii_lowercase();
        let parts: Vec<&str> = host.split('.').collect();
        // What all hosts of a domain have is no sign, and neither is a number.
        let (_, parts) = parts.split_last().unwrap_or((&"", &[]));
        let is_sign = |p: &&str| *p != "www" && !p.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = parts.iter().copied().filter(is_sign).collect();
        let origins: BTreeSet<&Origin> = self.catalog.origins_of_host(&host).collect();
        self.asides_where(now, |aside| {
            let texts = [&*aside.subject, &*aside.origin.entry, &*aside.reason];
            let called = |text: &&str| words(text).any(|word| parts.contains(&word));
            origins.contains(&aside.origin)
                || (!host.is_empty() && texts.iter().any(|text| text.contains(&host)))
                || texts.iter().take(2).any(called)
        })
    }

    fn asides_where(&self, now: Instant, holds: impl Fn(&Aside) -> bool) -> Vec<AsideStatus> {
        let asides = self.quarantine().iter();
        let asides = asides.filter(|(aside, _)| holds(aside));
        asides
            .map(|(aside, since)| AsideStatus::new(now, aside, since))
            .collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}
