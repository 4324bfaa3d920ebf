//! The packet plane of a daemon: loaded when the first service needs it, so that whoever has none
//! pays nothing and needs no privilege.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use plimsoll_model::{Desired, Op, Plan, Route, Service};
use plimsoll_plane::{
    Counters, Event, Explanation, FlowFilter, FlowPage, ItemResult, Plane, PlaneError, Tuple,
    Unsupported,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::check::{self, NAME};
use crate::interfaces::Interfaces;
use crate::kernel::{NAMES, Sizes, TunnelSources};
use crate::plane::{EVENTS, EbpfPlane, Options};
use crate::sys::{Error, Netlink, Result, hooks};

/// After a failure, whoever asks is told the same for so long.
const AGAIN: Duration = Duration::from_secs(30);

/// The packet plane, or none yet.
#[derive(Debug)]
pub struct OnDemand {
    options: Options,
    plane: RefCell<State>,
    events: (Sender<Event>, Option<Receiver<Event>>),
}

#[derive(Debug)]
enum State {
    Idle,
    OnPaper,
    Running(Box<EbpfPlane>),
    Failed(String, Instant),
}

impl OnDemand {
    /// A plane that is loaded when it is needed; at once if an earlier process left one in this
    /// network namespace, for somebody must look after it.
    pub fn new(options: Options) -> Self {
        let (sender, receiver) = channel(EVENTS);
        let plane = Self {
            options,
            plane: RefCell::new(State::Idle),
            events: (sender, Some(receiver)),
        };
        if is_left().unwrap_or(false) {
            // If it cannot be had, the first service that needs it is told why.
            let _ = plane.start();
        }
        plane
    }

    /// One that says what could be carried, by the configuration alone, and never carries anything.
    pub fn on_paper() -> Self {
        let (sender, receiver) = channel(EVENTS);
        Self {
            options: Options {
                sizes: Sizes::for_memory(0),
                interfaces: Interfaces::default(),
                tunnels: TunnelSources::default(),
            },
            plane: RefCell::new(State::OnPaper),
            events: (sender, Some(receiver)),
        }
    }

    fn start(&self) -> Result<(), String> {
        let mut state = self.plane.borrow_mut();
        match &*state {
            State::Running(_) | State::OnPaper => return Ok(()),
            State::Failed(why, when) if when.elapsed() < AGAIN => return Err(why.clone()),
            State::Idle | State::Failed(..) => {}
        }
        match EbpfPlane::start_with(self.options.clone(), self.events.0.clone()) {
            Ok(plane) => {
                *state = State::Running(Box::new(plane));
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                *state = State::Failed(why.clone(), Instant::now());
                Err(why)
            }
        }
    }

    fn with<T>(&self, or: T, body: impl FnOnce(&mut EbpfPlane) -> T) -> T {
        match &mut *self.plane.borrow_mut() {
            State::Running(plane) => body(plane),
            State::Idle | State::OnPaper | State::Failed(..) => or,
        }
    }
}

/// Whether an earlier process left programs of ours in this namespace.
fn is_left() -> Result<bool> {
    let mut netlink = Netlink::open()?;
    let left = hooks::ours(&mut netlink)?;
    Ok(left
        .iter()
        .any(|(_, attached)| NAMES.contains(&attached.name.as_str())))
}

fn not_loaded(op: &Op) -> ItemResult {
    ItemResult {
        subject: op.subject(),
        result: Err(PlaneError::Other(
            "the packet plane is not loaded".to_owned(),
        )),
    }
}

impl Plane for OnDemand {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, service: &Service) -> Result<(), Unsupported> {
        check::service(service)?;
        self.start().map_err(|why| Unsupported {
            plane: NAME,
            feature: format!("programs in the kernel here ({why})"),
            instead: "mend that, or use forward = \"proxy\"".to_owned(),
        })
    }

    fn check_route(&self, route: &Route) -> Result<(), Unsupported> {
        check::route(route)
    }

    fn read(&mut self) -> Result<Desired, PlaneError> {
        self.with(Ok(Desired::default()), Plane::read)
    }

    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult> {
        let none = plan.ops.iter().map(not_loaded).collect();
        self.with(none, |plane| plane.apply(plan))
    }

    fn counters(&self) -> Counters {
        self.with(Counters::default(), |plane| plane.counters())
    }

    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError> {
        self.with(Ok(FlowPage::default()), |plane| plane.flows(filter, cursor))
    }

    fn explain(&self, tuple: &Tuple) -> Explanation {
        let why = format!("no service of this plane listens on {}", tuple.destination);
        let nowhere = Explanation {
            steps: vec![why.clone()],
            nowhere: Some(why),
            ..Explanation::default()
        };
        self.with(nowhere, |plane| plane.explain(tuple))
    }

    fn events(&mut self) -> Option<Receiver<Event>> {
        self.events.1.take()
    }
}

impl From<Error> for PlaneError {
    fn from(error: Error) -> Self {
        PlaneError::Other(error.to_string())
    }
}
