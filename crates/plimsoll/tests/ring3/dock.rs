//! The dock: an engine with containers, and what every test asks of it.

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_testkit::{
    ClientPlan, Engine, EnginePlan, engine_or_skip, static_program, wait_until_async,
};

/// Everything that should happen soon happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// An engine with the images `instance` and `checked`.
pub(crate) struct Dock(pub(crate) Engine);

impl Dock {
    /// None if there is no root and leave to skip.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with(test, EnginePlan::default())
    }

    /// As [`Self::new`], with an engine that is run so.
    pub(crate) fn with(test: &str, plan: EnginePlan) -> Option<Self> {
        if !engine_or_skip(test) {
            return None;
        }
        let engine = Engine::start(plan).unwrap();
        engine.build_instance().unwrap();
        Some(Self(engine))
    }

    /// Builds the image `plimsoll` of the binary under test.
    pub(crate) fn build_plimsoll(&self) {
        let program = static_program("plimsoll", "plimsoll").unwrap();
        let lines = "FROM scratch\nCOPY plimsoll /plimsoll\nENTRYPOINT [\"/plimsoll\"]\n";
        self.0
            .build("plimsoll", lines, &[("plimsoll", &program)])
            .unwrap();
    }

    /// Starts an instance with these arguments of `docker run` and of its own; where it is.
    pub(crate) fn instance(&self, name: &str, run: &[&str], args: &[&str]) -> SocketAddr {
        let start = ["run", "-d", "--name", name, "--hostname", name];
        self.0.docker(&[&start, run, &["instance"], args].concat());
        (self.0.address(name, "bridge"), 8080).into()
    }

    /// Requests for this host from the engine's host: 4 at a time, with a short pause between them
    /// that leaves the processors to whoever is tested.
    pub(crate) fn requests(&self, to: SocketAddr, host: &str) -> ClientPlan {
        ClientPlan {
            place: self.0.place(),
            tasks: 4,
            pause: Duration::from_millis(2),
            ..ClientPlan::http(to, host)
        }
    }

    /// Waits until somebody listens there.
    pub(crate) async fn listens(&self, address: SocketAddr) {
        let place = self.0.place();
        let connected = async {
            while place.connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(SOON, connected).await;
        in_time.unwrap_or_else(|_| panic!("nobody listens on {address}"));
    }

    /// Waits until this holds.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        what: &'a str,
        holds: impl FnMut() -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let held = wait_until_async(SOON, holds).await;
            assert!(held, "{caller}: not within {SOON:?}: {what}");
        }
    }
}
