//! What users type: `docker` and `docker-compose`, against a private engine.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::Engine;
use crate::finish::{finish, succeed};
use crate::{Error, TempDir};

/// A command has so long.
const BOUND: Duration = Duration::from_secs(120);

/// A command that only shows something has so long.
const SHOW: Duration = Duration::from_secs(10);

/// Where a program is: in the folders of the system first. A newer client that somebody put
/// elsewhere may not speak to the engine.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin"]
        .into_iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// What was asked for.
#[track_caller]
#[allow(clippy::panic, reason = "this is how a test fails")]
pub(super) fn done<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

impl Engine {
    /// A client, with nothing of the user's own configuration and environment.
    fn client(&self, program: &str) -> Result<Command, Error> {
        let found = find(program);
        let found = found.ok_or_else(|| Error::Failed(format!("there is no {program}")))?;
        let mut command = Command::new(found);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir())
            .env("DOCKER_HOST", self.host())
            // The other builder is a plugin that may not be there.
            .env("DOCKER_BUILDKIT", "0")
            .env("COMPOSE_DOCKER_CLI_BUILD", "0");
        Ok(command)
    }

    /// Runs `docker` with these arguments; what it wrote to standard output, without white space
    /// around it. Blocks the thread.
    ///
    /// # Errors
    /// It fails, or takes longer than two minutes; with what it wrote.
    pub fn try_docker(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = self.client("docker")?;
        command.args(args);
        Ok(succeed(command, BOUND)?.trim().to_owned())
    }

    /// As [`Self::try_docker`].
    ///
    /// # Panics
    /// As that fails.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        done(self.try_docker(args))
    }

    /// Runs `docker-compose` with these arguments in a folder with a Compose file, as
    /// [`Self::try_docker`].
    ///
    /// # Errors
    /// As there.
    pub fn try_compose(&self, dir: &Path, args: &[&str]) -> Result<String, Error> {
        let mut command = self.client("docker-compose")?;
        command.args(args).current_dir(dir);
        Ok(succeed(command, BOUND)?.trim().to_owned())
    }

    /// As [`Self::try_compose`].
    ///
    /// # Panics
    /// As that fails.
    #[track_caller]
    pub fn compose(&self, dir: &Path, args: &[&str]) -> String {
        done(self.try_compose(dir, args))
    }

    /// Its containers, with the end of what each wrote; for people.
    pub(super) fn containers(&self) -> String {
        let said = |args: &[&str]| {
            self.client("docker").and_then(|mut docker| {
                docker.args(args);
                finish(docker, SHOW)
            })
        };
        let ids = match said(&["ps", "-aq"]) {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => return error.to_string(),
        };
        let mut text = String::new();
        for id in ids.lines() {
            let format = "{{.ID}} {{.Names}} {{.Status}}: {{.Image}} {{.Command}}";
            let filter = format!("id={id}");
            for args in [
                [
                    "ps",
                    "-a",
                    "--no-trunc",
                    "--filter",
                    &filter,
                    "--format",
                    format,
                ]
                .as_slice(),
                &["logs", "--tail", "50", id],
            ] {
                if let Ok(Output { stdout, stderr, .. }) = said(args) {
                    text += &String::from_utf8_lossy(&[stdout, stderr].concat());
                }
            }
        }
        text
    }

    /// Builds an image from the text of a Dockerfile, with these files beside it: names, and where
    /// they are. There is no registry: it begins with `FROM scratch`.
    ///
    /// # Errors
    /// A file cannot be copied, or the engine refuses; with what it said.
    pub fn build(
        &self,
        name: &str,
        dockerfile: &str,
        files: &[(&str, &Path)],
    ) -> Result<(), Error> {
        let context = TempDir::new()?;
        let path = context.path();
        let put = |error| Error::io(format!("preparing the image {name}"))(error);
        fs::write(path.join("Dockerfile"), dockerfile).map_err(put)?;
        for (file, from) in files {
            fs::copy(from, path.join(file)).map_err(put)?;
        }
        self.build_in(path, &["--tag", name])
    }

    /// Builds an image of a folder with a Dockerfile, with these arguments of `docker build`.
    ///
    /// # Errors
    /// The engine refuses; with what it said.
    pub fn build_in(&self, folder: &Path, args: &[&str]) -> Result<(), Error> {
        let mut command = self.client("docker")?;
        command.args(["build", "--quiet"]).args(args).arg(".");
        command.current_dir(folder);
        succeed(command, BOUND).map(drop)
    }

    /// The address of a container in a network, IPv4 if it has one.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn address(&self, container: &str, network: &str) -> IpAddr {
        let found = self.api_get(&format!("/containers/{container}/json"));
        let end = found.pointer(&format!("/NetworkSettings/Networks/{network}"));
        let at = |key| end?.get(key)?.as_str()?.parse().ok();
        let address = at("IPAddress").or_else(|| at("GlobalIPv6Address"));
        done(address.ok_or_else(|| {
            Error::Failed(format!("{container} has no address in {network}: {end:?}"))
        }))
    }
}
