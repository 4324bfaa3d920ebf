//! A program that runs in the background of a test, with a configuration of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::wire::{Response, Wire};
use crate::{Error, Place, TempDir};

/// Between two looks at whether it is ready or gone.
const STEP: Duration = Duration::from_millis(10);

/// An answer of the admin socket takes at most so long.
const ADMIN: Duration = Duration::from_secs(20);

/// When a program counts as started.
#[derive(Clone, Debug, Default)]
pub enum Ready {
    /// Its admin socket answers a request for `/healthz`, whatever it says.
    #[default]
    Admin,
    /// It accepts connections here.
    Port(Place, SocketAddr),
    /// At once.
    Spawned,
}

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct DaemonPlan {
    /// The program.
    pub program: PathBuf,
    /// The text of its configuration.
    pub config: String,
    /// Its arguments; `{config}`, `{admin}` and `{dir}` stand for paths in its folder.
    pub args: Vec<String>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
    /// The name of the network namespace it runs in.
    pub namespace: Option<String>,
    /// When it counts as started.
    pub ready: Ready,
    /// It has so long to become ready.
    pub bound: Duration,
}

impl DaemonPlan {
    /// `PROGRAM run --config CONFIG --admin SOCKET`, ready when the admin socket answers, within 10 s.
    pub fn new(program: impl Into<PathBuf>, config: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            config: config.into(),
            args: ["run", "--config", "{config}", "--admin", "{admin}"]
                .map(str::to_owned)
                .into(),
            env: Vec::new(),
            namespace: None,
            ready: Ready::Admin,
            bound: Duration::from_secs(10),
        }
    }
}

/// A running program. It is killed when this is dropped, and by the kernel when the test's process
/// dies; its folder is removed. If the test is failing, what it wrote is shown.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    dir: TempDir,
    status: Option<ExitStatus>,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready within the bound; with what it wrote.
    pub async fn start(plan: DaemonPlan) -> Result<Self, Error> {
        let dir = TempDir::new()?;
        let path = dir.path();
        fs::write(path.join("config.toml"), &plan.config).map_err(Error::io("the config"))?;
        let log = File::create(path.join("log")).map_err(Error::io("the log"))?;
        let mut words = Vec::new();
        if let Some(namespace) = &plan.namespace {
            words.extend(["ip", "netns", "exec", namespace].map(str::to_owned));
        }
        // All of these exec what follows: the process that is started is the program.
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        words.push(plan.program.display().to_string());
        words.extend(plan.args.iter().map(|word| {
            word.replace("{config}", &path.join("config.toml").display().to_string())
                .replace("{admin}", &path.join("admin.sock").display().to_string())
                .replace("{dir}", &path.display().to_string())
        }));
        let Some((first, rest)) = words.split_first() else {
            return Err(Error::Failed("nothing to start".to_owned()));
        };
        let mut command = Command::new(first);
        let copy = log.try_clone().map_err(Error::io("the log"))?;
        command
            .args(rest)
            .envs(plan.env.clone())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy);
        let child = crate::spawn::spawn(command).map_err(Error::io(words.join(" ")))?;
        let mut daemon = Self {
            child,
            dir,
            status: None,
        };
        daemon.await_ready(&plan).await?;
        Ok(daemon)
    }

    async fn await_ready(&mut self, plan: &DaemonPlan) -> Result<(), Error> {
        let until = Instant::now() + plan.bound;
        let what = plan.program.display();
        loop {
            let ready = match &plan.ready {
                Ready::Spawned => true,
                Ready::Admin => self.admin_get("/healthz").await.is_ok(),
                Ready::Port(place, address) => place.connect(*address).await.is_ok(),
            };
            // Somebody else may be listening there: it has to be alive, too.
            if let Some(status) = self.ended()?
                && !matches!(plan.ready, Ready::Spawned)
            {
                return Err(Error::Failed(format!(
                    "{what} ended, {status}:\n{}",
                    self.log()
                )));
            }
            if ready {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Failed(format!(
                    "{what} is not ready after {:?}:\n{}",
                    plan.bound,
                    self.log()
                )));
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration.
    pub fn config_path(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Its admin socket.
    pub fn admin_path(&self) -> PathBuf {
        self.dir().join("admin.sock")
    }

    /// What it has written so far, to standard output and standard error.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Replaces its configuration in one step, as a careful editor does.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace_config(&self, text: &str) -> Result<(), Error> {
        let new = self.dir().join("config.toml.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, self.config_path()))
            .map_err(Error::io("replacing the config"))
    }

    /// Overwrites its configuration in place, as a careless editor does.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn overwrite_config(&self, text: &str) -> Result<(), Error> {
        fs::write(self.config_path(), text).map_err(Error::io("overwriting the config"))
    }

    /// Asks its admin socket with a GET.
    ///
    /// # Errors
    /// It does not answer within 20 seconds.
    pub async fn admin_get(&self, target: &str) -> Result<Response, Error> {
        self.admin("GET", target, "").await
    }

    /// Asks its admin socket; a body that is not empty is sent as JSON.
    ///
    /// # Errors
    /// It does not answer within 20 seconds.
    pub async fn admin(&self, method: &str, target: &str, body: &str) -> Result<Response, Error> {
        let ask = async {
            let stream = UnixStream::connect(self.admin_path()).await?;
            let mut wire = Wire::new(stream);
            let kind = if body.is_empty() {
                ""
            } else {
                "Content-Type: application/json\r\n"
            };
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{kind}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            wire.stream.write_all(request.as_bytes()).await?;
            wire.response(method).await
        };
        let failed = |why: String| Error::Failed(format!("{method} {target}: {why}"));
        match tokio::time::timeout(ADMIN, ask).await {
            Ok(response) => response.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {ADMIN:?}"))),
        }
    }

    /// Asks it to read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// It has ended.
    pub fn hup(&self) -> Result<(), Error> {
        self.signal(Signal::HUP)
    }

    /// Asks it to drain and stop (SIGTERM).
    ///
    /// # Errors
    /// It has ended.
    pub fn term(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// It has ended.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// Sends it any signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Once its end is known, its id may belong to another.
        let pid = pid.filter(|_| self.status.is_none());
        let pid = pid.ok_or_else(|| Error::Failed("it has ended".to_owned()))?;
        kill_process(pid, signal).map_err(|errno| Error::io("a signal")(errno.into()))
    }

    /// How it ended; none as long as it runs.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            self.status = self.child.try_wait().map_err(Error::io("waiting"))?;
        }
        Ok(self.status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after the bound; with what it wrote.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus, Error> {
        let until = Instant::now() + bound;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                let log = self.log();
                return Err(Error::Failed(format!(
                    "it still runs after {bound:?}:\n{log}"
                )));
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

impl Drop for Daemon {
    #[allow(
        clippy::print_stderr,
        reason = "the harness shows it below the failed test"
    )]
    fn drop(&mut self) {
        if self.status.is_none() {
            // Fails only if it has ended already.
            let _ended = self.child.kill();
            let _status = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("process {} wrote:\n{}", self.id(), self.log());
        }
    }
}
