//! The machine, and what this process may do on it.

use plimsoll_plane_ebpf::sys::host::{Task, missing};

use super::listed;
use crate::{Facts, Finding, Source};

pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.host.too_old {
        Some(why) => Finding::error(why.clone())
            .because("programs of the packet plane need what newer kernels have"),
        None => Finding::ok(format!("Linux {}", facts.host.release)),
    }]
}

pub(super) fn privileges(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let Some(capabilities) = host.capabilities else {
        return vec![Finding::unknown(
            "what this process may do",
            "there is no /proc/self/status",
        )];
    };
    let missing = missing(capabilities, Task::TakeOver);
    if !host.first_users {
        return vec![
            Finding::error("this is not the host's user namespace")
                .because(
                    "its root has no privileges over the host's network: no program can be loaded",
                )
                .mend(
                    "sudo plimsoll doctor    # on the host, or in a container that is not rootless",
                ),
        ];
    }
    if missing.is_empty() {
        return vec![Finding::ok("this process has the capabilities it needs")];
    }
    let text = format!("this process lacks {}", listed(&missing));
    if !host.root {
        return vec![
            Finding::unknown(
                text,
                "a daemon may have them; the doctor sees less without them",
            )
            .mend("sudo plimsoll doctor"),
        ];
    }
    let names = missing.iter().filter_map(|name| name.strip_prefix("CAP_"));
    let options: Vec<String> = names.map(|name| format!("--cap-add {name}")).collect();
    let remedy = match host.container {
        true => format!("docker run {} …", options.join(" ")),
        false => format!("capsh --print    # why has root no {}?", listed(&missing)),
    };
    vec![
        Finding::error(text)
            .because("a daemon that lacks them cannot have the packet plane, and the doctor sees less without them")
            .mend(remedy),
    ]
}

pub(super) fn mounts(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let mut found = Vec::new();
    if let Some(why) = &host.cpus {
        found.push(
            Finding::error(format!("processors cannot be counted: {why}"))
                .because("values of maps have a part for each")
                .mend("mount -t sysfs -o ro sysfs /sys"),
        );
    }
    match host.settings_writable {
        Some(true) => {}
        Some(false) => found.push(
            Finding::warning("/proc/sys is read-only here, as containers have it")
                .because("settings can only be changed on the host")
                .mend("sudo plimsoll doctor --container NAME    # on the host"),
        ),
        None => found.push(Finding::unknown(
            "whether settings can be changed",
            "/proc/sys/net is missing",
        )),
    }
    super::or_ok(found, || "/sys and /proc/sys are there".to_owned())
}

pub(super) fn jit(facts: &Facts) -> Vec<Finding> {
    vec![match (facts.host.program_jited, facts.host.jit) {
        (Some(true), _) | (None, Some(true)) => Finding::ok("programs are translated (JIT)"),
        (Some(false), _) | (None, Some(false)) => {
            Finding::warning("programs are interpreted, not translated (JIT)")
                .because("each packet takes some ten times as long")
                .mend("sysctl -w net.core.bpf_jit_enable=1")
        }
        (None, None) => Finding::unknown(
            "whether programs are translated (JIT)",
            "the kernel tells that only in the first network namespace, or of a program that is attached",
        ),
    }]
}

pub(super) fn limits(facts: &Facts) -> Vec<Finding> {
    let lockdown = facts.host.lockdown.as_deref().unwrap_or("none");
    let memlock = match facts.host.memlock {
        None => "locked memory has no limit".to_owned(),
        // Memory of maps is the control group's since Linux 5.11.
        Some(bytes) => {
            format!("locked memory ends at {bytes} bytes, which does not matter to maps")
        }
    };
    vec![Finding::ok(format!(
        "lockdown is {lockdown}, which these programs do not mind; {memlock}"
    ))]
}

pub(super) fn role(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for space in &facts.spaces {
        if let Some(director) = &space.director {
            let source = match &director.source {
                Source::Daemon => "as its daemon says".to_owned(),
                Source::Kernel => "no daemon runs, its programs in the kernel go on".to_owned(),
                Source::File(path) => format!("no daemon runs; {path} says what it would forward"),
            };
            let finding = match director.source {
                Source::Daemon => Finding::ok(format!("director, {source}")),
                _ => Finding::note(format!("director: {source}"))
                    .because(
                        "nobody takes changes, checks backends, or says why something is put aside",
                    )
                    .mend("plimsoll run"),
            };
            found.push(finding.at(space));
        }
        if let Some(node) = &space.node {
            found.push(Finding::ok(format!("node for {}", listed(&node.vips))).at(space));
        }
        for guest in &space.guests {
            let text = format!("host of the node {} behind {}", guest.ip, guest.interface);
            found.push(Finding::ok(text).at(space));
        }
        for (what, why) in &space.untold {
            found.push(Finding::unknown(what.clone(), why.clone()).at(space));
        }
    }
    if found.is_empty() {
        found.push(
            Finding::note(
                "this machine is neither a director (no daemon, no programs, no configuration file) nor a \
                 node (no VIP on lo)",
            )
            .because("name what it shall be")
            .mend("plimsoll doctor --config FILE")
            .mend("plimsoll doctor --vip ADDR"),
        );
    }
    found
}
