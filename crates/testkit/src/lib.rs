//! A counting client, scripted backends and network namespaces for the tests.
//!
//! - [`HttpBackend`] and [`TcpBackend`] are servers that behave as told, well or badly, and can be
//!   told otherwise while they run.
//! - [`Client`] sends requests that each carry an id of their own, checks every answer to the last
//!   byte and hides nothing: no retry, no failure that is not reported. [`Tunnels`] does the same
//!   for connections that live long.
//! - [`Raw`] is a connection for tests that care about every byte.
//! - [`Net`] builds network namespaces that are gone when it is dropped; a [`Place`] says where a
//!   socket is opened.
//! - [`Engine`] is a Docker engine of the test's own; [`Instance`] is what runs in its containers.
//! - [`FakeEngine`] is a Docker Engine whose containers only exist in memory.
//! - [`Daemon`] runs a program with a configuration in a folder of its own.
//!
//! Everything works on any tokio runtime, and nothing waits without a bound.

mod client;
mod conn;
mod daemon;
mod engine;
mod exchange;
mod fake_engine;
mod finish;
mod http_backend;
mod http_behaviour;
mod image;
mod instance;
mod json;
mod netns;
mod payload;
mod place;
mod ports;
mod raw;
mod report;
mod server;
mod spawn;
mod tcp_backend;
mod tempdir;
mod tunnels;
mod wait;
mod wire;

pub use client::{Client, ClientPlan, Protocol, Reuse};
pub use daemon::{Daemon, DaemonPlan, Ready};
pub use engine::{Engine, EnginePlan, engine_or_skip};
pub use fake_engine::{Ask, EngineBehaviour, FakeContainer, FakeEngine, Fault, Telling, World};
pub use finish::finish;
pub use http_backend::{HttpBackend, Seen};
pub use http_behaviour::{Answer, Continue, HttpBehaviour, Phase};
pub use image::static_program;
pub use instance::{Instance, InstancePlan, OnTerm};
pub use json::list;
pub use netns::{Namespace, Net, have_root, root_or_skip};
pub use payload::{BACKEND_HEADER, ID_HEADER, WANT_HEADER, unique_id};
pub use place::Place;
pub use ports::Port;
pub use raw::Raw;
pub use report::{Failure, Report};
pub use server::{Ending, Stats};
pub use tcp_backend::{TcpAnswer, TcpBackend, TcpBehaviour};
pub use tempdir::TempDir;
pub use tunnels::{Tunnel, TunnelPlan, TunnelReport, Tunnels};
pub use wait::{until, until_some, wait_until, wait_until_async};
pub use wire::{Body, Head, Response, WireError};

/// Why a helper could not do its work. The text is meant for whoever reads a failed test.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A command ended badly, a wait came to its bound, …
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
