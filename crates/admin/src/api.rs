//! What can be asked, and what is answered.

use std::net::SocketAddr;

use plimsoll_control::status::{AsideStatus, Status};
use plimsoll_control::{Command, CommandError};
use plimsoll_plane::{Explanation, Flow, FlowFilter, FlowPage, Tuple};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::Sender;

/// A question or a wish, on its way to whoever owns control. Nobody waits for an answer that is
/// dropped.
#[derive(Debug)]
pub enum Ask {
    /// All there is to see.
    Status(Sender<Report>),
    /// Whether it is ready.
    Readiness(Sender<Readiness>),
    /// Live flows, from a cursor on; why they cannot be listed otherwise.
    Flows(FlowFilter, u64, Sender<Result<FlowsReport, String>>),
    /// Where something would go.
    Explain(Tuple, Sender<ExplainReport>),
    /// Something for one backend.
    Command {
        /// The service, by its name.
        service: String,
        /// The backend, by its address or its unique name.
        backend: String,
        /// What to do.
        command: Command,
        /// The answer.
        reply: Sender<Result<Done, NotTaken>>,
    },
    /// A whole service into maintenance, or out of it.
    Maintain {
        /// The service, by its name.
        service: String,
        /// Whether it is to be in maintenance; none: as its source says.
        on: Option<bool>,
        /// The answer: whether it is now.
        reply: Sender<Result<Maintained, NotTaken>>,
    },
    /// Read the sources again. The answer comes before they are read.
    Reload(Sender<()>),
}

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    /// Why.
    pub error: CommandError,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

/// The state of the process and of all it balances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has been running, in seconds.
    pub uptime: f64,
    /// Worker threads of the proxy plane.
    pub workers: usize,
    /// Whether it is ready.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// All the rest.
    #[serde(flatten)]
    pub status: Status,
}

/// Whether the first configuration is in force, all listens are up and nothing is being stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it is.
    pub ready: bool,
    /// Whether the process drains before it ends.
    pub draining: bool,
    /// Why it is not ready.
    pub reasons: Vec<String>,
}

/// A part of the list of flows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowsReport {
    /// The flows, the oldest first.
    pub flows: Vec<FlowReport>,
    /// The cursor to go on with; none at the end.
    pub next: Option<u64>,
}

/// A live connection, tunnel or request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// The client, `ADDR:PORT`.
    pub client: String,
    /// What it connected to.
    pub listen: String,
    /// The service, once one is chosen.
    pub service: Option<String>,
    /// The backend, once one is chosen.
    pub backend: Option<String>,
    /// `idle`, `head`, `queued`, `request`, `tunnel`, `tcp`.
    pub phase: String,
    /// How long it has been there, in seconds.
    pub age: f64,
}

impl From<Flow> for FlowReport {
    fn from(flow: Flow) -> Self {
        Self {
            client: flow.client.to_string(),
            listen: flow.listen.to_string(),
            service: flow.service.map(|name| name.to_string()),
            backend: flow.backend.map(|addr| addr.to_string()),
            phase: flow.phase.into(),
            age: flow.age.as_millis() as f64 / 1000.0,
        }
    }
}

impl From<FlowPage> for FlowsReport {
    fn from(page: FlowPage) -> Self {
        Self {
            flows: page.flows.into_iter().map(FlowReport::from).collect(),
            next: page.next,
        }
    }
}

/// Where something would go, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainReport {
    /// The client.
    pub client: Option<SocketAddr>,
    /// What it connects to.
    pub destination: Option<SocketAddr>,
    /// The plane that would carry it.
    pub plane: String,
    /// The route that decides, if one does.
    pub route: Option<String>,
    /// The service, if one is reached.
    pub service: Option<String>,
    /// The backend, where the choice depends on nothing but what was asked.
    pub backend: Option<String>,
    /// The name of that backend; empty if it has none.
    #[serde(default)]
    pub backend_name: String,
    /// Why it goes nowhere, if so.
    #[serde(default)]
    pub nowhere: Option<String>,
    /// For HTTP that goes nowhere: the status that it is answered with.
    #[serde(default)]
    pub status: Option<u16>,
    /// Every step of the decision, for people.
    pub steps: Vec<String>,
    /// What is put aside that may be why it goes nowhere.
    #[serde(default)]
    pub quarantine: Vec<AsideStatus>,
}

impl ExplainReport {
    /// What this plane says of the tuple, with nothing put aside.
    pub fn new(tuple: &Tuple, plane: &str, explanation: Explanation) -> Self {
        Self {
            client: Some(tuple.client),
            destination: Some(tuple.destination),
            plane: plane.into(),
            route: explanation.route.map(|name| name.to_string()),
            service: explanation.service.map(|name| name.to_string()),
            backend: explanation.backend.map(|addr| addr.to_string()),
            backend_name: explanation.backend_name,
            nowhere: explanation.nowhere,
            status: explanation.status,
            steps: explanation.steps,
            quarantine: Vec::new(),
        }
    }
}

/// A command that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The service.
    pub service: String,
    /// The address of the backend.
    pub backend: String,
    /// Its state now.
    pub state: String,
    /// Its weight now.
    pub weight: u32,
}

/// Maintenance of a service that was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintained {
    /// The service.
    pub service: String,
    /// Whether it is in maintenance now.
    pub maintenance: bool,
}

/// What is sent to change the maintenance of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceBody {
    /// Whether it is to be in maintenance; none is what the source says.
    pub on: Option<bool>,
}

/// What is sent to change a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightBody {
    /// The weight, 0..=2³¹−1; none is what the source says.
    pub weight: Option<u32>,
}

/// Why something was not done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What to do; empty where there is nothing to say.
    #[serde(default)]
    pub hint: String,
}

impl ErrorBody {
    /// An error with what to do about it.
    pub fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            hint: hint.into(),
        }
    }
}
