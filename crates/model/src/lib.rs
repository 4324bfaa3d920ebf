//! The vocabulary of plimsoll: services, listens, backends, routes, the desired state, and the
//! difference between two of them.
//!
//! This room is pure: no I/O, no clock, no randomness. Everything that decides or describes what
//! traffic should go where is said in these types, whichever source it came from and whichever
//! plane carries it out.

mod access;
mod backend;
mod check;
mod clients;
mod cookie;
mod datagrams;
mod desired;
mod http;
mod limits;
mod listen;
mod name;
mod net_set;
mod options;
mod origin;
mod outlier;
mod packets;
mod plan;
mod proxy_header;
mod retry;
mod route;
mod scheduler;
mod service;
mod sessions;
mod state;
mod timeouts;
mod update;
mod vip;

pub use access::{AccessLog, LogTo};
pub use backend::{Backend, BackendAddr, Forward, MAX_WEIGHT, Tunnel};
pub use check::{Check, CheckHost, CheckKind, CheckPath, StatusSet};
pub use clients::{ClientRules, Verdict};
pub use cookie::{Cookie, CookieMode};
pub use desired::Desired;
pub use http::{
    BasicAuth, Coding, Compress, ErrorPages, ErrorStatus, FieldName, FieldRules, HashKind,
    Intercept, Maintenance, MediaTypes, Page, Part, PasswordHash, PrefixChange, Redirect,
    RedirectHost, RedirectTarget, RequestId, RouteHttp, Scheme, ServiceHttp, Template, Variable,
    looks_secret,
};
pub use limits::{Limits, Period, Quota, Rate};
pub use listen::{Family, Listen, Ports, Proto};
pub use name::Name;
pub use net_set::{NetSet, canonical_net};
pub use options::{Interface, ListenOptions, Source, ToBackends};
pub use origin::Origin;
pub use outlier::{Outlier, OutlierErrors};
pub use packets::{MidStream, Mss, PacketRules};
pub use plan::{Op, Plan, PlanError, Subject};
pub use proxy_header::{ProxyHeaders, ProxyVersion};
pub use retry::{Retry, RetryOn};
pub use route::{HostPattern, PathPrefix, Route, WeightedService};
pub use scheduler::{HashKey, Scheduler, SchedulerKind};
pub use service::{Persistence, PlaneChoice, Service, ServiceSpec};
pub use sessions::Sessions;
pub use state::{State, Status};
pub use timeouts::Timeouts;
pub use update::{Entry, EntryKey, Item, Precedence, SourceId, SourceUpdate, Update};
pub use vip::{Vip, VipAddress};

/// Why a value cannot be part of the model. The text names the value, what was expected and, where
/// there is one, what to do; it is fit to be shown to a user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
