//! The demo's hosts as containers of the local Docker Engine.
//!
//! Their image is empty: the program is this very file, mounted, with the libraries that it has loaded.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_discover::docker::client::Engine;
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_plane_ebpf::node::Namespace;

use super::book::{Book, LABEL, Made, output};
use super::plan::{CLIENT, DIRECTOR, HOSTS, NETWORKS, Plan};
use super::{End, program, write_config};
use crate::error::Error;

/// What loads programs of the packet plane; older engines do not know of BPF and PERFMON, which SYS_ADMIN has in it.
const RIGHTS: [&str; 2] = ["NET_ADMIN", "SYS_ADMIN"];
/// An archive with nothing in it: two empty blocks.
const NOTHING: [u8; 1024] = [0; 1024];

/// The local engine, if it answers; else why not.
pub(super) async fn engine() -> Result<PathBuf, String> {
    let host = EngineHost::from_env(|name| std::env::var(name).ok());
    let host = host.map_err(|why| format!("DOCKER_HOST: {why}"))?;
    let Some(socket) = host.socket() else {
        return Err(format!("{host} is not on this host"));
    };
    if !socket.exists() {
        return Err(format!("there is no Docker engine at {}", socket.display()));
    }
    let answered = Engine::negotiate(&host).await;
    answered.map_err(|why| format!("no Docker engine answers: {why}"))?;
    Ok(socket.to_owned())
}

/// The command `docker` for the engine at this socket.
pub(super) fn docker(socket: &Path) -> Command {
    let mut command = Command::new("docker");
    command.args(["-H", &format!("unix://{}", socket.display())]);
    command
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_HOST");
    command
}

/// The hosts.
pub(super) struct Containers {
    socket: PathBuf,
    prefix: String,
}

impl Containers {
    /// Makes them, in a network of their own, with their programs running.
    pub(super) fn make(
        plan: &mut Plan,
        name: &str,
        socket: PathBuf,
        book: &mut Book,
    ) -> Result<Self, Error> {
        let all = Self {
            socket,
            prefix: name.to_owned(),
        };
        // Without the command nothing is made, and nothing is to be taken away.
        all.docker(&["version"])?;
        book.note(Made::Engine(all.socket.clone(), name.to_owned()))?;
        let label = format!("{LABEL}={name}");
        all.image(&label)?;
        *plan = all.network(*plan, &label)?;
        // The director reads it as soon as it starts.
        write_config(plan, book)?;
        let mounts = mounts(book.folder())?;
        for (host, _) in HOSTS {
            all.run(host, plan, &label, &mounts, book.folder())?;
        }
        // An engine in a machine of its own has processes that are not here.
        all.namespace(DIRECTOR)?;
        Ok(all)
    }

    fn docker(&self, words: &[&str]) -> Result<String, Error> {
        output(docker(&self.socket).args(words)).map_err(Error::Failed)
    }

    fn image_name(&self) -> String {
        format!("{}-dr", self.prefix)
    }

    fn image(&self, label: &str) -> Result<(), Error> {
        let cannot = |why: std::io::Error| Error::Failed(format!("docker import: {why}"));
        let mut command = docker(&self.socket);
        command.args(["import", "--change", &format!("LABEL {label}"), "-"]);
        command.arg(self.image_name());
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = child.map_err(cannot)?;
        if let Some(mut stdin) = child.stdin.take() {
            // It says itself why it has ended early.
            let _ = std::io::Write::write_all(&mut stdin, &NOTHING);
        }
        let ended = child.wait_with_output().map_err(cannot)?;
        match ended.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&ended.stderr);
                Err(Error::Failed(format!("docker import: {}", said.trim())))
            }
        }
    }

    /// Makes the network, the first of those to choose from that the engine has not given to another one.
    fn network(&self, plan: Plan, label: &str) -> Result<Plan, Error> {
        let mut plan = plan;
        loop {
            let subnet = plan.subnet();
            let mut words = vec!["network", "create", "--label", label, "--subnet", &subnet];
            if plan.vip().is_ipv6() {
                words.push("--ipv6");
            }
            words.push(&self.prefix);
            let error = match self.docker(&words) {
                Ok(_) => return Ok(plan),
                Err(error) => error,
            };
            let taken = error.to_string().contains("overlaps");
            if !taken || plan.network() >= NETWORKS {
                return Err(error);
            }
            plan = Plan::new(plan.vip(), plan.network() + 1);
        }
    }

    fn full(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn run(
        &self,
        host: &str,
        plan: &Plan,
        label: &str,
        mounts: &[String],
        folder: &Path,
    ) -> Result<(), Error> {
        let (full, image, ip) = (self.full(host), self.image_name(), plan.of(host));
        let mut words = vec!["run", "-d", "--name", &full, "--hostname", host];
        words.extend(["--label", label, "--network", &self.prefix]);
        let ip = ip.to_string();
        words.extend([
            if plan.vip().is_ipv4() {
                "--ip"
            } else {
                "--ip6"
            },
            &ip,
        ]);
        if host == DIRECTOR {
            words.extend(RIGHTS.into_iter().flat_map(|right| ["--cap-add", right]));
            let folder = mounts.first();
            words.extend(folder.into_iter().flat_map(|mount| ["-v", mount]));
        }
        let files = mounts.iter().skip(1);
        words.extend(files.flat_map(|mount| ["-v", mount.as_str()]));
        words.push(&image);
        let start = start_of(mounts);
        words.extend(start.iter().map(String::as_str));
        // The client has nothing to do but to be there: the demo asks from its network.
        let program = match host {
            CLIENT => ["demo-server", "--listen", "127.0.0.1:80"]
                .map(str::to_owned)
                .into(),
            host => program(host, folder),
        };
        words.extend(program.iter().map(String::as_str));
        self.docker(&words).map(drop)
    }

    pub(super) fn namespace(&self, host: &str) -> Result<Namespace, Error> {
        let full = self.full(host);
        let id = self.docker(&["inspect", "-f", "{{.State.Pid}}", &full])?;
        match id.trim().parse() {
            Ok(0) | Err(_) => Err(Error::Failed(format!(
                "container {full} has ended: {}",
                self.said(host)
            ))),
            Ok(id) => Ok(Namespace::of_process(id)?),
        }
    }

    /// The last that a host's program said.
    pub(super) fn said(&self, host: &str) -> String {
        let mut command = docker(&self.socket);
        command.args(["logs", "--tail", "3", &self.full(host)]);
        let logged = command.stdin(Stdio::null()).process_group(0).output();
        let logged = logged.map(|logged| [logged.stdout, logged.stderr].concat());
        String::from_utf8_lossy(&logged.unwrap_or_default())
            .trim()
            .replace('\n', " ")
    }

    /// How people run something on a host, beside the container's own program.
    pub(super) fn shell(&self, host: &str) -> String {
        let full = self.full(host);
        format!("nsenter -n -t $(docker inspect -f '{{{{.State.Pid}}}}' {full})")
    }

    /// Starts a container again.
    pub(super) fn start(&self, host: &str) -> Result<(), Error> {
        self.docker(&["start", &self.full(host)]).map(drop)
    }

    /// Ends a container.
    pub(super) fn end(&self, host: &str, how: End) -> Result<(), Error> {
        let full = self.full(host);
        match how {
            End::Kill => self.docker(&["kill", &full]),
            End::Stop => self.docker(&["stop", &full]),
        }
        .map(drop)
    }
}

/// What is mounted: the demo's folder, this program, and the libraries that it has loaded.
fn mounts(folder: &Path) -> Result<Vec<String>, Error> {
    let binary = std::env::current_exe().map_err(|why| Error::Failed(format!("{why}")))?;
    let folder = folder.display();
    let mut mounts = vec![
        format!("{folder}:{folder}"),
        format!("{}:/plimsoll:ro", binary.display()),
    ];
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for library in libraries(&maps) {
        let name = Path::new(library).file_name().unwrap_or_default();
        mounts.push(format!("{library}:/lib/{}:ro", name.to_string_lossy()));
    }
    Ok(mounts)
}

/// The libraries in a list of mappings (proc_pid_maps(5)); none of a static program.
fn libraries(maps: &str) -> BTreeSet<&str> {
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    paths
        .filter(|path| path.starts_with('/'))
        .filter(|path| path.ends_with(".so") || path.contains(".so."))
        .collect()
}

/// How the program is started with these mounts: by its loader, if it has libraries.
fn start_of(mounts: &[String]) -> Vec<String> {
    let inside = |mount: &String| {
        let path = mount.strip_suffix(":ro")?;
        Some(path.rsplit_once(':')?.1.to_owned())
    };
    let loader = mounts
        .iter()
        .filter_map(inside)
        .find(|path| path.starts_with("/lib/ld-"));
    let mut words = Vec::new();
    if let Some(loader) = loader {
        words.extend([loader, "--library-path".into(), "/lib".into()]);
    }
    words.push("/plimsoll".into());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_are_loaded() {
        let maps = "55d0-55d1 r-xp 0 fe:00 1 /usr/bin/plimsoll\n\
                    7f00-7f01 r-xp 0 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f01-7f02 rw-p 0 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f02-7f03 r-xp 0 fe:00 3 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n\
                    7f03-7f04 rw-p 0 00:00 0 [stack]\n7f04-7f05 rw-p 0 00:00 0\n";
        let found: Vec<&str> = libraries(maps).into_iter().collect();
        assert_eq!(found.len(), 2, "{found:?}");
        let mounts = [
            "/run/x:/run/x".to_owned(),
            "/usr/bin/plimsoll:/plimsoll:ro".to_owned(),
            format!("{}:/lib/ld-linux-x86-64.so.2:ro", found[0]),
        ];
        let start = start_of(&mounts);
        assert_eq!(
            start,
            [
                "/lib/ld-linux-x86-64.so.2",
                "--library-path",
                "/lib",
                "/plimsoll"
            ]
        );
        assert_eq!(start_of(&mounts[..2]), ["/plimsoll"]);
    }
}
