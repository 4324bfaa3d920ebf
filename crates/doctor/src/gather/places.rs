//! Where `plimsoll node` was: namespaces of this host of which it has written something down.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plimsoll_plane_ebpf::node::{Namespace, State};

/// A namespace that is a node.
#[derive(Debug)]
pub struct Found {
    /// What people call it; empty for the one this process is in.
    pub name: String,
    /// The namespace.
    pub namespace: Namespace,
    /// What was written down of it.
    pub state: State,
}

/// All namespaces of which something is written down in this folder, the own one first. Those that are
/// gone, or of other hosts, are left out.
pub fn left(folder: &Path) -> Vec<Found> {
    let all = numbers(folder);
    let mut wanted = all.clone();
    let mut found = Vec::new();
    let mut add = |name: String, namespace: Namespace| {
        let Ok(inode) = namespace.inode() else { return };
        if !wanted.remove(&inode) {
            return;
        }
        if let Ok(state) = namespace.state(folder)
            && !state.vips.is_empty()
        {
            found.push(Found {
                name,
                namespace,
                state,
            });
        }
    };
    if let Ok(own) = Namespace::own() {
        add(String::new(), own);
    }
    for path in named() {
        if let Ok(namespace) = Namespace::at(&path) {
            add(path.display().to_string(), namespace);
        }
    }
    for (id, inode) in processes() {
        if !all.contains(&inode) {
            continue;
        }
        if let Ok(namespace) = Namespace::of_process(id) {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            add(format!("process {id} ({})", name.trim()), namespace);
        }
    }
    found
}

/// The numbers of namespaces in the names of files (`node-INODE.json`).
fn numbers(folder: &Path) -> BTreeSet<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter_map(|name| {
        let number = name.strip_prefix("node-")?.strip_suffix(".json")?;
        number.parse().ok()
    });
    numbers.collect()
}

/// Namespaces with names, as `ip netns` has them.
fn named() -> Vec<PathBuf> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Processes, with the numbers of their network namespaces.
fn processes() -> Vec<(u32, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<(u32, u64)> = ids
        .filter_map(|id| {
            let about = fs::metadata(format!("/proc/{id}/ns/net")).ok()?;
            Some((id, about.st_ino()))
        })
        .collect();
    found.sort_unstable();
    found
}
