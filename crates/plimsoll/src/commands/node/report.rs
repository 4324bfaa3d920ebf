//! What is told of a node, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use plimsoll_plane_ebpf::node::{Change, Counts, Done, LOOPBACK, Trouble};
use serde::Serialize;
use serde_json::{Value, json};

/// What was done.
pub(super) struct Report {
    /// Where, if containers are followed.
    pub(super) container: Option<String>,
    /// The VIPs that are served now.
    pub(super) vips: BTreeSet<IpAddr>,
    pub(super) done: Done,
}

/// What a check found.
pub(super) struct Checked {
    pub(super) missing: Vec<Change>,
    pub(super) troubles: Vec<Trouble>,
    /// What the programs did, by their interfaces.
    pub(super) counts: BTreeMap<String, Counts>,
}

/// A step for programs.
#[derive(Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
enum Step<'a> {
    Set { name: &'a str, from: i32, to: i32 },
    Unwrap { interface: &'a str },
    StopUnwrapping { interface: &'a str },
    Clamp { interface: &'a str },
    StopClamping { interface: &'a str },
    Add { vip: IpAddr },
    Delete { vip: IpAddr },
}

fn step(change: &Change) -> Step<'_> {
    match change {
        Change::Set { name, from, to } => Step::Set {
            name,
            from: *from,
            to: *to,
        },
        Change::Unwrap { interface, .. } => Step::Unwrap { interface },
        Change::StopUnwrapping(interface) => Step::StopUnwrapping { interface },
        Change::Clamp { interface, .. } => Step::Clamp { interface },
        Change::StopClamping(interface) => Step::StopClamping { interface },
        Change::Add(vip) => Step::Add { vip: *vip },
        Change::Delete(vip) => Step::Delete { vip: *vip },
    }
}

/// A step for people, once it is done.
fn done(change: &Change) -> String {
    match change {
        Change::Set { name, from, to } => format!("{name} is {to}, was {from}"),
        Change::Unwrap { interface, .. } => format!("{interface} unwraps tunnels"),
        Change::StopUnwrapping(interface) => format!("{interface} unwraps tunnels no more"),
        Change::Clamp { interface, vips } => {
            let most = vips.values().max().copied().unwrap_or_default();
            format!("{interface} lets TCP announce segments of {most} bytes at most")
        }
        Change::StopClamping(interface) => {
            format!("{interface} lets TCP announce what segments it likes")
        }
        Change::Add(vip) => format!("{LOOPBACK} has {vip}"),
        Change::Delete(vip) => format!("{LOOPBACK} has {vip} no more"),
    }
}

/// A step for people that is missing.
fn missing(change: &Change) -> String {
    match change {
        Change::Set { name, from, to } => format!("{name} is {from}, has to be {to}"),
        Change::Unwrap { interface, .. } => {
            format!("{interface} does not unwrap tunnels for all of these addresses")
        }
        Change::StopUnwrapping(interface) => format!("{interface} unwraps tunnels"),
        Change::Clamp { interface, .. } => {
            format!(
                "{interface} lets TCP announce segments that do not fit for all of these addresses"
            )
        }
        Change::StopClamping(interface) => format!("{interface} clamps segments"),
        Change::Add(vip) => format!("{LOOPBACK} has no {vip}"),
        Change::Delete(vip) => format!("{LOOPBACK} has {vip}"),
    }
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let changes: Vec<Step<'_>> = self.done.changes.iter().map(step).collect();
        let mut json = json!({"vips": self.vips, "changes": changes, "left": self.done.left});
        if let (Some(container), Some(fields)) = (&self.container, json.as_object_mut()) {
            fields.insert("container".to_owned(), container.as_str().into());
        }
        json
    }

    pub(super) fn text(&self) -> String {
        let vips: Vec<String> = self.vips.iter().map(ToString::to_string).collect();
        let who = match &self.container {
            Some(name) => format!("container {name}"),
            None => "node".to_owned(),
        };
        let mut text = match vips.as_slice() {
            [] => format!("{who}: serves nothing\n"),
            vips => format!("{who}: serves {}\n", vips.join(", ")),
        };
        for change in &self.done.changes {
            text.push_str(&format!("  {}\n", done(change)));
        }
        for left in &self.done.left {
            text.push_str(&format!("  {left}\n"));
        }
        text
    }
}

impl Checked {
    pub(super) fn count(&self) -> usize {
        self.missing.len() + self.troubles.len()
    }

    pub(super) fn json(&self) -> Value {
        let missing: Vec<Step<'_>> = self.missing.iter().map(step).collect();
        let troubles: Vec<Value> = self
            .troubles
            .iter()
            .map(|trouble| json!({"what": trouble.to_string(), "remedy": trouble.remedy()}))
            .collect();
        let counts: BTreeMap<&str, Value> = self
            .counts
            .iter()
            .map(|(interface, counts)| {
                let counts = json!({
                    "unwrapped": counts.unwrapped,
                    "dropped_ecn": counts.dropped_ecn,
                    "dropped_failed": counts.dropped_failed,
                });
                (interface.as_str(), counts)
            })
            .collect();
        json!({"missing": missing, "troubles": troubles, "tunnels": counts})
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for change in &self.missing {
            text.push_str(&format!("missing: {}\n", missing(change)));
        }
        for trouble in &self.troubles {
            text.push_str(&format!("trouble: {trouble}: {}\n", trouble.remedy()));
        }
        for (interface, counts) in &self.counts {
            text.push_str(&format!(
                "{interface}: {} unwrapped, {} dropped (congestion told to who does not know of it), {} dropped (failed)\n",
                counts.unwrapped, counts.dropped_ecn, counts.dropped_failed
            ));
        }
        if self.count() == 0 {
            text.push_str("node: all is as it has to be\n");
        }
        text
    }
}
