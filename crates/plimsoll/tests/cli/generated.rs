//! Help, completions, manual pages, and the list of dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use plimsoll_testkit::TempDir;

use crate::{plimsoll, text};

const SHELLS: [(&str, &str); 4] = [
    ("bash", "plimsoll.bash"),
    ("elvish", "plimsoll.elv"),
    ("fish", "plimsoll.fish"),
    ("zsh", "_plimsoll"),
];

/// Set to any text, the files in the tree are written anew.
const REFRESH: &str = "PLIMSOLL_REFRESH";

fn tree(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(folder)
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), text)
    });
    files.collect()
}

/// Whether a folder of the tree holds exactly these files.
fn compare(folder: &str, fresh: &BTreeMap<String, String>) {
    let folder = tree(folder);
    if std::env::var_os(REFRESH).is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for name in files(&folder).keys() {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        for (name, text) in fresh {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let kept = files(&folder);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&kept),
        names(fresh),
        "run `{REFRESH}=1 cargo test -p plimsoll generated`"
    );
    for (name, text) in fresh {
        let same = kept[name] == *text;
        assert!(
            same,
            "{name} is not up to date: `{REFRESH}=1 cargo test -p plimsoll generated`"
        );
    }
}

#[test]
fn completions_are_up_to_date() {
    let fresh = SHELLS.map(|(shell, file)| {
        let ended = plimsoll(&["completions", shell]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(ended.out.contains("drain-timeout"), "{shell}");
        (file.to_owned(), ended.out)
    });
    compare("completions", &fresh.into());
}

#[test]
fn manual_pages_are_up_to_date() {
    let dir = TempDir::new().unwrap();
    let ended = plimsoll(&["man", text(dir.path())]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    compare("man", &files(dir.path()));
}

#[test]
fn every_command_explains_itself() {
    let whole = plimsoll(&["--help"]);
    assert_eq!(whole.code, Some(0));
    let commands: Vec<&str> = whole
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(
        commands.contains(&"run") && commands.contains(&"demo"),
        "{commands:?}"
    );
    assert!(!commands.contains(&"man"), "hidden: {commands:?}");
    for command in commands {
        let ended = plimsoll(&[command, "--help"]);
        assert_eq!(ended.code, Some(0), "{command}");
        assert!(ended.out.contains("Examples:"), "{command}: {}", ended.out);
        assert!(
            ended.out.contains("Usage: plimsoll"),
            "{command}: {}",
            ended.out
        );
    }
}

#[test]
fn wrong_usage_is_2_and_says_what_is_known() {
    let ended = plimsoll(&["stauts"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("status"), "{}", ended.err);
    let ended = plimsoll(&["run", "--drain-timeout", "5"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("--drain-timeout") && ended.err.contains("30s"),
        "{}",
        ended.err
    );
    let ended = plimsoll(&["weight", "web", "x", "2147483648"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("2147483647"), "{}", ended.err);
}

/// The names of foreign crates in a table of a manifest.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(tree(manifest)).unwrap();
    let lines = text.lines().skip_while(|line| *line != table).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| Some(line.split_once([' ', '.'])?.0));
    names
        .filter(|name| !name.starts_with(['#']) && !name.starts_with("plimsoll"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let mut used = dependencies("Cargo.toml", "[workspace.dependencies]");
    assert!(used.contains("tokio"), "{used:?}");
    used.extend(dependencies("fuzz/Cargo.toml", "[dependencies]"));
    let text = std::fs::read_to_string(tree("docs/dependencies.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| {
        let cell = row.split('|').nth(1).unwrap();
        cell.split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
            .collect::<Vec<_>>()
    });
    assert_eq!(names.collect::<BTreeSet<_>>(), used);
}
