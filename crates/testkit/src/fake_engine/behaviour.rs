//! How an engine that is none behaves.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// `/_ping`
    Ping,
    /// `/version`
    Version,
    /// `/info`
    Info,
    /// `/events`
    Events,
    /// `/containers/json`
    List,
    /// `/containers/ID/json`
    Inspect,
    /// `/networks`
    Networks,
    /// Anything else.
    Other,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with this body.
    Status(u16, String),
    /// 200 with this body.
    Body(String),
    /// Something that is not HTTP.
    Garbage,
    /// The first half, then the end of the connection.
    Half,
    /// The end of the connection.
    Nothing,
    /// No answer, ever.
    Hang,
}

/// What is wrong with a stream of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    #[default]
    Well,
    /// It tells nothing, for ever.
    Nothing,
    /// It tells everything twice.
    Twice,
    /// What happens together is told the last first.
    Backwards,
    /// It tells everything so much later.
    Late(Duration),
    /// It tells things that cannot be read instead.
    Garbage,
}

/// How an engine behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineBehaviour {
    /// The newest version of the API.
    pub api: String,
    /// The oldest version of the API.
    pub min_api: String,
    /// Whether the answer to a ping says the newest version.
    pub says_version: bool,
    /// Whether it knows HEAD.
    pub knows_head: bool,
    /// What its containers run on.
    pub os: String,
    /// What is wrong with answers.
    pub faults: BTreeMap<Ask, Fault>,
    /// What is wrong with inspections of single containers, by their ids.
    pub inspections: BTreeMap<String, Fault>,
    /// What is wrong with streams of events.
    pub telling: Telling,
}

impl Default for EngineBehaviour {
    /// As Docker 20.10.
    fn default() -> Self {
        Self {
            api: "1.41".into(),
            min_api: "1.12".into(),
            says_version: true,
            knows_head: true,
            os: "linux".into(),
            faults: BTreeMap::new(),
            inspections: BTreeMap::new(),
            telling: Telling::Well,
        }
    }
}

impl EngineBehaviour {
    /// With a fault.
    #[must_use]
    pub fn fault(mut self, ask: Ask, fault: Fault) -> Self {
        self.faults.insert(ask, fault);
        self
    }
}
