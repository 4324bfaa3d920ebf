//! A patient: a network namespace in which something is broken, and the doctor who looks at it.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use plimsoll_testkit::{Namespace, TempDir, wait_until};
use serde_json::Value;

use crate::lab::{BINARY, Ended, SOON, ended};

/// What does not flow is not waited for longer.
const PATIENCE: Duration = Duration::from_millis(700);

/// Where the doctor looks, and how he is asked.
pub(super) struct Ward<'a> {
    pub(super) patient: &'a Namespace,
    /// Whose packets are to be served, and where they go; none where nobody is asked.
    pub(super) client: Option<(&'a Namespace, SocketAddr)>,
    pub(super) args: Vec<String>,
    pub(super) state: TempDir,
}

/// Changes a setting, by its name with slashes.
pub(super) fn set(namespace: &Namespace, name: &str, value: &str) {
    let path = PathBuf::from("/proc/sys").join(name);
    let value = value.to_owned();
    namespace
        .run(move || std::fs::write(path, value).unwrap())
        .unwrap();
}

/// Runs a line of a shell inside.
#[track_caller]
pub(super) fn shell(namespace: &Namespace, line: &str) {
    let mut command = namespace.command("sh");
    let ended = ended({
        command.args(["-c", line]);
        command
    });
    assert_eq!(ended.code, Some(0), "{line}: {}{}", ended.out, ended.err);
}

/// Whether a client's connection is accepted.
pub(super) fn reaches(client: &Namespace, to: SocketAddr) -> bool {
    client
        .run(move || TcpStream::connect_timeout(&to, PATIENCE).is_ok())
        .unwrap()
}

impl Ward<'_> {
    pub(super) fn ask(&self, more: &[&str]) -> Ended {
        let mut command: Command = self.patient.command(BINARY);
        command.arg("doctor").args(&self.args);
        command.arg("--state").arg(self.state.path()).args(more);
        ended(command)
    }

    /// All that is wrong now.
    pub(super) fn wrong(&self) -> Vec<Value> {
        let said = self.ask(&["--json"]);
        let report: Value = serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err));
        let findings = report["findings"].as_array().unwrap();
        let level = |finding: &&Value| finding["level"] == "error" || finding["level"] == "warning";
        let wrong: Vec<Value> = findings.iter().filter(level).cloned().collect();
        let errors = wrong.iter().filter(|finding| finding["level"] == "error");
        let code = if errors.count() == 0 { 0 } else { 1 };
        assert_eq!(said.code, Some(code), "{report:#}");
        wrong
    }

    /// Makes sure that nothing is wrong, and that packets flow.
    #[track_caller]
    pub(super) fn is_well(&self) {
        let mut wrong = Vec::new();
        let well = wait_until(2 * SOON, || {
            wrong = self.wrong();
            wrong.is_empty()
        });
        assert!(well, "{wrong:#?}");
        if let Some((client, to)) = self.client {
            assert!(
                wait_until(2 * SOON, || reaches(client, to)),
                "nothing flows"
            );
        }
    }

    /// Breaks one thing; the doctor names it, and nothing else. The commands that he prints are run, and
    /// all is well again.
    #[track_caller]
    pub(super) fn breaks(&self, what: &str, check: &str, stops: bool) {
        shell(self.patient, what);
        self.is_broken(what, check, stops);
    }

    /// The same, with the thing broken already.
    #[track_caller]
    pub(super) fn is_broken(&self, what: &str, check: &str, stops: bool) {
        if let Some((client, to)) = self.client.filter(|_| stops) {
            let stopped = wait_until(2 * SOON, || !reaches(client, to));
            assert!(stopped, "{what}: packets still flow");
        }
        let mut wrong = Vec::new();
        let named = wait_until(2 * SOON, || {
            wrong = self.wrong();
            !wrong.is_empty() && wrong.iter().all(|finding| finding["check"] == check)
        });
        assert!(
            named,
            "{what}: {check} is not all that is wrong: {wrong:#?}"
        );
        let shown = self.ask(&[]).out;
        for finding in &wrong {
            let remedy = finding["remedy"].as_array().unwrap();
            assert!(!remedy.is_empty(), "{finding:#}");
            for command in remedy {
                let command = command.as_str().unwrap();
                assert!(shown.contains(command), "{command:?} is not in {shown}");
                shell(self.patient, command);
            }
        }
        self.is_well();
    }
}
