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

/// After a failure, whoever asks is told the same for so long: programs may have been looked at for nothing,
/// which takes the kernel its time.
const AGAIN: Duration = Duration::from_secs(30);
/// The same where another process has the plane: looking whether it has ended costs nothing.
const LOCKED_AGAIN: Duration = Duration::from_secs(1);
/// Nobody is to ask again sooner.
const PAUSE: Duration = Duration::from_millis(50);

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
    Failed(Failure),
}

/// Why it could not be loaded.
#[derive(Clone, Debug)]
struct Failure {
    why: String,
    /// When it is worth another try; none where this process never can.
    again: Option<Instant>,
}

impl Failure {
    fn new(now: Instant, error: &Error) -> Self {
        let pause = match error {
            Error::Privilege(_) | Error::Kernel { .. } => None,
            Error::Locked(_) => Some(LOCKED_AGAIN),
            _ => Some(AGAIN),
        };
        Self {
            why: error.to_string(),
            again: pause.map(|pause| now + pause),
        }
    }

    fn holds(&self, now: Instant) -> bool {
        self.again.is_none_or(|again| now < again)
    }

    fn unsupported(self, now: Instant) -> Unsupported {
        let again = self.again.map(|at| at.saturating_duration_since(now));
        Unsupported {
            plane: NAME,
            feature: format!("programs in the kernel here ({})", self.why),
            instead: "mend that, or use forward = \"proxy\"".to_owned(),
            again: again.map(|pause| pause.max(PAUSE)),
        }
    }
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
            let _ = plane.start(Instant::now());
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

    fn start(&self, now: Instant) -> Result<(), Failure> {
        let mut state = self.plane.borrow_mut();
        match &*state {
            State::Running(_) | State::OnPaper => return Ok(()),
            State::Failed(failure) if failure.holds(now) => return Err(failure.clone()),
            State::Idle | State::Failed(..) => {}
        }
        match EbpfPlane::start_with(self.options.clone(), self.events.0.clone()) {
            Ok(plane) => {
                *state = State::Running(Box::new(plane));
                Ok(())
            }
            Err(error) => {
                let failure = Failure::new(now, &error);
                *state = State::Failed(failure.clone());
                Err(failure)
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
        let now = Instant::now();
        self.start(now).map_err(|failure| failure.unsupported(now))
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
