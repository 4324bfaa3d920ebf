//! `check`.

use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_testkit::TempDir;

use crate::{BINARY, plimsoll, text};

struct File {
    _dir: TempDir,
    path: PathBuf,
}

fn file(content: &str) -> File {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lb.toml");
    std::fs::write(&path, content).unwrap();
    File { _dir: dir, path }
}

const GOOD: &str = "[[service]]\nname = \"web\"\nlisten = \"127.0.0.1:80/http\"\n\
                    backends = [\"127.0.0.1:81\", \"127.0.0.1:82\"]\n";

#[test]
fn valid_is_0() {
    let good = file(GOOD);
    let ended = plimsoll(&["check", text(&good.path)]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended
            .out
            .ends_with(": valid: 1 service, 2 backends, 0 routes\n"),
        "{}",
        ended.out
    );
}

#[test]
fn invalid_is_2_with_place_key_and_nearest_name() {
    let bad = file(&GOOD.replace("backends", "backend"));
    let good = file(GOOD);
    let ended = plimsoll(&["check", text(&good.path), text(&bad.path)]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.out.contains(": valid:"),
        "the other file is fine: {}",
        ended.out
    );
    let place = format!("{}:4:1: error: ", bad.path.display());
    for part in [place.as_str(), "`backend`", "did you mean `backends`?"] {
        assert!(ended.err.contains(part), "{part} in {}", ended.err);
    }
}

#[test]
fn json_is_for_programs() {
    let bad = file(&GOOD.replace(":80/", ":0/"));
    let ended = plimsoll(&["check", "--json", text(&bad.path), "/nonexistent/lb.toml"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(2), ""));
    let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found[0]["valid"], false);
    assert_eq!(found[0]["errors"][0]["line"], 3);
    assert!(
        found[0]["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("port 0"),
        "{found}"
    );
    assert_eq!(found[1]["file"], "/nonexistent/lb.toml");
    assert_eq!(found[1]["valid"], false);
}

#[test]
fn what_no_plane_carries_is_a_warning() {
    for (listen, what) in [("127.0.0.1:53/sctp", "SCTP"), ("mark:5", "mark")] {
        let file = file(&GOOD.replace("127.0.0.1:80/http", listen));
        let place = format!(
            "{}:2:8: warning: service `web`: is put aside: ",
            file.path.display()
        );
        for (strict, code) in [(None, 0), (Some("--strict"), 2)] {
            let args: Vec<&str> = ["check", text(&file.path)]
                .into_iter()
                .chain(strict)
                .collect();
            let ended = plimsoll(&args);
            assert_eq!(ended.code, Some(code), "{listen}");
            assert!(
                ended.err.contains(&place) && ended.err.contains(what),
                "{}",
                ended.err
            );
        }
        let ended = plimsoll(&["check", "--json", text(&file.path)]);
        let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(found[0]["valid"], true);
        assert!(
            found[0]["warnings"][0]["message"]
                .as_str()
                .unwrap()
                .contains(what),
            "{found}"
        );
    }
}

#[test]
fn the_packet_plane_is_asked_too() {
    let text = |scheduler: &str| {
        format!(
            "[[service]]\nname = \"web\"\nlisten = \"203.0.113.9:80/tcp\"\nscheduler = \"{scheduler}\"\n\
             backends = [{{ address = \"10.0.0.1\", forward = \"dr\" }}]\n"
        )
    };
    let good = file(&text("mh"));
    let ended = plimsoll(&["check", "--strict", good.path.to_str().unwrap()]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let bad = file(&text("ewma"));
    let ended = plimsoll(&["check", bad.path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0));
    let why = "of service `web`: is put aside: the ebpf plane has no scheduler ewma";
    assert!(ended.err.contains(why), "{}", ended.err);
}

#[test]
fn what_has_no_effect_on_datagrams_is_a_warning() {
    for (listen, settings, expected) in [
        (
            "127.0.0.1:80/tcp+udp",
            "send-proxy = \"v2\"\nbody-limit = 5\n",
            Some("`send-proxy` has no effect for datagrams"),
        ),
        (
            "127.0.0.1:80/udp",
            "queue = 5\nbody-limit = 5\n",
            Some("`queue`, `body-limit` have no effect for datagrams"),
        ),
        (
            "127.0.0.1:80/http",
            "timeouts = { udp = \"5s\" }\nsessions = 5\n",
            Some("`timeouts.udp`, `sessions` have no effect where no listen is /udp"),
        ),
        (
            "127.0.0.1:80/udp",
            "listen-options = { tcp-fast-open = 5 }\nto-backends = { tcp-fast-open = true }\n",
            Some("`listen-options.tcp-fast-open`, `to-backends.tcp-fast-open` have no effect"),
        ),
        ("127.0.0.1:80/udp", "sessions = 5\n", None),
    ] {
        let config = GOOD.replace("127.0.0.1:80/http", listen);
        let config = config.replace("listen =", &format!("{settings}listen ="));
        let file = file(&config);
        let ended = plimsoll(&["check", "--strict", text(&file.path)]);
        let code = if expected.is_some() { 2 } else { 0 };
        assert_eq!(ended.code, Some(code), "{listen} {settings}: {}", ended.err);
        let said = expected.unwrap_or("");
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn a_lack_of_privileges_is_a_warning() {
    for settings in [
        "to-backends = { mark = 7 }",
        "to-backends = { source = \"client\" }",
        "listen-options = { transparent = true }",
    ] {
        let file = file(&GOOD.replace("listen =", &format!("{settings}\nlisten =")));
        let args = ["check", "--strict", text(&file.path)];
        let mut command = match plimsoll_testkit::have_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set", "-net_admin,-net_raw", BINARY]);
                command
            }
            false => Command::new(BINARY),
        };
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in [
            "is put aside",
            "without CAP_NET_ADMIN",
            "--cap-add NET_ADMIN",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let ended = plimsoll(&["check", text(&file)]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let file = file(block.split_once("```").unwrap().0);
        let ended = plimsoll(&["check", "--strict", text(&file.path)]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_2() {
    let ended = plimsoll(&["check", "/nonexistent/lb.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("/nonexistent/lb.toml"), "{}", ended.err);
    let bad = file("");
    std::fs::write(&bad.path, [0xff, 0xfe]).unwrap();
    let ended = plimsoll(&["check", text(&bad.path)]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("UTF-8"), "{}", ended.err);
}

/// Runs `check` with a standard output that nobody reads.
fn unread(args: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(crate::BINARY);
    let command = command.arg("check").args(args);
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .status();
    status.unwrap().code()
}

#[test]
fn the_verdict_does_not_depend_on_who_reads_it() {
    let good = file(GOOD);
    let good = text(&good.path);
    assert_eq!(unread(&[good]), Some(0));
    for bad in [
        &[good, "/nonexistent/lb.toml"][..],
        &["/nonexistent/lb.toml", "--json"],
    ] {
        assert_eq!(unread(bad), Some(2), "{bad:?}");
    }
}

#[test]
fn a_pipe_without_a_writer_is_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    for command in [&["check"][..], &["run", "--config"]] {
        let ended = plimsoll(&[command, &[text(&path)]].concat());
        assert_eq!(ended.code, Some(2), "{command:?}: {}", ended.err);
        assert!(ended.err.contains("regular file"), "{}", ended.err);
    }
    let script = "echo | \"$0\" check /dev/stdin && \"$0\" check <(printf \"$1\")";
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", script, crate::BINARY, "# nothing\\n"]);
    let ended = crate::ended(bash);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn a_service_that_is_its_own_backend_is_a_warning() {
    for (listen, backend, own) in [
        ("127.0.0.1:80/http", "127.0.0.1:80", true),
        ("*:80/tcp", "127.0.0.1:80", true),
        ("0.0.0.0:80/http", "127.0.0.2:80", true),
        ("127.0.0.1:80/http", "127.0.0.1:81", false),
        ("127.0.0.1:80/http", "127.0.0.2:80", false),
        ("*:80/tcp", "192.0.2.1:80", false),
    ] {
        let config = GOOD.replace("127.0.0.1:80/http", listen);
        let config = config.replace("127.0.0.1:81", "192.0.2.9:1");
        let file = file(&config.replace("127.0.0.1:82", backend));
        let ended = plimsoll(&["check", "--strict", text(&file.path)]);
        let code = if own { 2 } else { 0 };
        assert_eq!(ended.code, Some(code), "{listen} {backend}: {}", ended.err);
        assert_eq!(
            ended.err.contains("has itself as backend"),
            own,
            "{}",
            ended.err
        );
    }
}

#[test]
fn a_balancer_whose_own_address_is_denied_is_a_warning() {
    for (settings, words) in [
        (
            "trusted = \"10.0.0.0/24\"\ndeny = \"10.0.0.0/8\"\n",
            "`trusted` has 10.0.0.0/24 speak",
        ),
        (
            "accept-proxy = \"10.0.0.0/8\"\ndeny = \"10.1.0.0/16\"\n",
            "`accept-proxy` has 10.0.0.0/8 speak",
        ),
        ("trusted = \"10.0.0.0/24\"\ndeny = \"10.0.1.0/24\"\n", ""),
    ] {
        let file = file(&format!("{GOOD}{settings}"));
        let ended = plimsoll(&["check", "--strict", text(&file.path)]);
        let code = if words.is_empty() { 0 } else { 2 };
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains(words), "{}", ended.err);
    }
}

#[test]
fn fast_open_that_has_nothing_to_send_is_a_warning() {
    let fast = "to-backends = { tcp-fast-open = true }\n";
    for (more, code) in [("", 2), ("send-proxy = \"v1\"\n", 0)] {
        let file = file(&format!("{GOOD}{fast}{more}"));
        let ended = plimsoll(&["check", "--strict", text(&file.path)]);
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        let warned = ended
            .err
            .contains("no effect over HTTP without `send-proxy`");
        assert_eq!(warned, code == 2, "{}", ended.err);
    }
}
