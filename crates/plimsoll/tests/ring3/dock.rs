//! The dock: an engine with containers, and what every test asks of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_testkit::{
    ClientPlan, Daemon, DaemonPlan, Engine, EnginePlan, Raw, TempDir, engine_or_skip, finish,
    static_program, wait_until_async,
};

use crate::lb::{BINARY, Lb, text};

/// Everything that should happen soon happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Where the load balancer listens by itself, seen from the engine's host.
pub(crate) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

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

    /// Builds the images `plimsoll` and `plimsoll-demo` as users do, with the binary under test.
    pub(crate) fn build_plimsoll(&self) {
        // What the script makes on the way does not belong into the repository.
        let folder = TempDir::new().unwrap();
        let folder = folder.path();
        fs::create_dir(folder.join("scripts")).unwrap();
        for file in ["scripts/image", "Dockerfile", ".dockerignore", "Cargo.toml"] {
            fs::copy(root().join(file), folder.join(file)).unwrap();
        }
        let program = static_program("plimsoll", "plimsoll").unwrap();
        let script = folder.join("scripts/image");
        let line = format!("{} --binary {}", script.display(), program.display());
        let built = finish(self.shell(&line), 3 * SOON).unwrap();
        assert!(built.status.success(), "{line}: {}", text(&built.stderr));
    }

    /// A shell on the engine's host that runs this.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut shell = self.0.command("bash");
        shell.args(["-ec", line]);
        shell
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.0.dir())
            // The other builder is a plugin that may not be there.
            .env("DOCKER_BUILDKIT", "0");
        shell
    }

    /// Runs `docker` with these words.
    #[track_caller]
    pub(crate) fn docker(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.0.docker(&words)
    }

    /// Starts a container of the image `instance`, with these options of `docker run` and these of
    /// its own.
    #[track_caller]
    pub(crate) fn start(&self, name: &str, run: &str, args: &str) {
        self.start_of("instance", name, run, args);
    }

    /// Starts a container of an image, as [`Self::start`].
    #[track_caller]
    pub(crate) fn start_of(&self, image: &str, name: &str, run: &str, args: &str) {
        let named = format!("--name {name} --hostname {name}");
        self.docker(&format!("run -d {named} {run} {image} {args}"));
    }

    /// Where an instance serves in the default network.
    #[track_caller]
    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        (self.0.address(name, "bridge"), 8080).into()
    }

    /// Tells an instance something, past the load balancer.
    pub(crate) async fn tell(&self, name: &str, what: &str) {
        self.tell_at(self.at(name), what).await;
    }

    /// As [`Self::tell`], by its address.
    pub(crate) async fn tell_at(&self, at: SocketAddr, what: &str) {
        let told = async {
            let mut raw = Raw::connect_from(&self.0.place(), at).await.ok()?;
            let target = format!("/control?{what}");
            raw.get("instance", &target, SOON).await.ok()
        };
        // One that is told to end does not answer.
        let answer = told.await;
        assert!(answer.is_none_or(|answer| answer.status == 200), "{what}");
    }

    /// What starts the daemon on the engine's host: without a configuration, and with these
    /// arguments.
    pub(crate) fn plan(&self, args: &[&str]) -> DaemonPlan {
        let run = ["run", "--admin", "{admin}", "--workers", "2"];
        DaemonPlan {
            namespace: Some(self.0.namespace().name().to_owned()),
            args: [&run, args]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            env: vec![("DOCKER_HOST".to_owned(), self.0.host())],
            ..DaemonPlan::new(BINARY, "")
        }
    }

    /// Runs the daemon on the engine's host without a configuration, and waits until all is in
    /// force.
    pub(crate) async fn run(&self) -> Lb {
        self.run_plan(self.plan(&[])).await
    }

    /// As [`Self::run`], as planned.
    pub(crate) async fn run_plan(&self, plan: DaemonPlan) -> Lb {
        let lb = Lb(Daemon::start(plan).await.unwrap());
        lb.until("it is ready", async || lb.look().await["ready"] == true)
            .await;
        lb
    }

    /// Requests for this host from the engine's host: 4 at a time, with a short pause between them
    /// that leaves the processors to whoever is tested.
    pub(crate) fn requests(&self, to: SocketAddr, host: &str) -> ClientPlan {
        ClientPlan {
            place: self.0.place(),
            tasks: 4,
            pause: Duration::from_millis(5),
            ..ClientPlan::http(to, host)
        }
    }

    /// Requests for this host to the daemon on the engine's host, as [`Self::requests`]; every third
    /// is a POST.
    pub(crate) fn load(&self, host: &str) -> ClientPlan {
        ClientPlan {
            post_every: 3,
            ..self.requests(WEB, host)
        }
    }

    /// The status that a request for this host is answered with by whoever listens there; 0 if there
    /// is no answer.
    pub(crate) async fn answer(&self, to: SocketAddr, host: &str) -> u16 {
        let Ok(mut raw) = Raw::connect_from(&self.0.place(), to).await else {
            return 0;
        };
        let answer = raw.get(host, "/", SOON).await;
        answer.map_or(0, |answer| answer.status)
    }

    /// Waits until the daemon on the engine's host answers requests for this host so. Until then
    /// they must be answered by one of these.
    #[track_caller]
    pub(crate) fn until_answer<'a>(
        &'a self,
        host: &'a str,
        status: u16,
        before: &'a [u16],
    ) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let started = Instant::now();
            loop {
                let answer = self.answer(WEB, host).await;
                if answer == status {
                    return;
                }
                assert!(
                    before.contains(&answer) && started.elapsed() < SOON,
                    "{caller}: {host}: {answer} after {:?}, waits for {status}",
                    started.elapsed()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
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

    /// Ends the daemon, and makes sure that nothing is left of the test.
    pub(crate) fn close(self, lb: Lb) {
        drop(lb);
        self.0.close().unwrap();
    }
}
