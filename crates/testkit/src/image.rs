//! Programs that run in containers without anything beside them: linked statically.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::Error;
use crate::engine::Engine;
use crate::finish::succeed;
use crate::server::lock;

/// A build from nothing has so long, on a slow machine beside other tests.
const BOUND: Duration = Duration::from_secs(1200);

/// Builds a binary of this workspace statically, unless that is up to date; where it is. It lies in
/// the folder `static` of the target folder. Others that build it at the same time are waited for.
///
/// # Errors
/// It does not build; with what cargo wrote.
pub fn static_program(package: &str, binary: &str) -> Result<PathBuf, Error> {
    static BUILT: Mutex<BTreeMap<(String, String), PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = lock(&BUILT);
    let key = (package.to_owned(), binary.to_owned());
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let target = target_folder()?.join("static");
    let host = host()?;
    // With a target of its own the flags are for this binary alone: a procedural macro cannot be
    // linked statically.
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--package", package, "--bin", binary])
        .args(["--target", &host, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    succeed(command, BOUND)?;
    let path = target.join(host).join("debug").join(binary);
    built.insert(key, path.clone());
    Ok(path)
}

/// The cargo that runs this test, in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

/// The target folder that this program was built in: it is in `PROFILE/deps` there if it is a test,
/// else in `PROFILE`.
fn target_folder() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::io("looking for this program"))?;
    let mut folders = program.ancestors().skip(1);
    let profile = folders.find(|folder| !folder.ends_with("deps"));
    let folder = profile.and_then(Path::parent).map(Path::to_owned);
    folder.ok_or_else(|| Error::Failed(format!("no target folder of {}", program.display())))
}

/// The target that the compiler builds for by itself.
fn host() -> Result<String, Error> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.arg("-vV");
    let said = succeed(command, BOUND)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Error::Failed(format!("rustc names no host: {said}")))
}

impl Engine {
    /// Builds the image `instance` of [`crate::Instance`], and `checked`, the same with a HEALTHCHECK
    /// of `/health` on port 8080 twice a second. Arguments of containers are its options; 8080 is
    /// exposed.
    ///
    /// # Errors
    /// As of [`static_program`] and [`Self::build`].
    pub fn build_instance(&self) -> Result<(), Error> {
        let program = static_program(env!("CARGO_PKG_NAME"), "instance")?;
        let lines = "FROM scratch\nCOPY instance /instance\nEXPOSE 8080\n\
                     ENTRYPOINT [\"/instance\", \"serve\"]\n";
        self.build("instance", lines, &[("instance", &program)])?;
        let checked = "FROM instance\nHEALTHCHECK --interval=500ms --timeout=2s --retries=2 \
                       CMD [\"/instance\", \"check\", \"http://127.0.0.1:8080/health\"]\n";
        self.build("checked", checked, &[])
    }
}
