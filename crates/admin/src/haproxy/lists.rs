//! What `show` has beside the counts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use plimsoll_control::Halt;
use plimsoll_control::status::{BackendStatus, ListenStatus};

use super::book::Book;
use super::csv::mode;
use crate::Report;

/// The listens, each once: services may share one.
pub(super) fn listens(report: &Report) -> impl Iterator<Item = &ListenStatus> {
    let all = report.status.services.iter().flat_map(|s| &s.listens);
    let mut listens: BTreeMap<&str, &ListenStatus> = BTreeMap::new();
    for listen in all {
        let known = listens.entry(&listen.listen).or_insert(listen);
        if listen.error.is_some() {
            *known = listen;
        }
    }
    listens.into_values()
}

/// What the process is, beside the report.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// The name of the host.
    pub(super) node: String,
    /// Files that it may open.
    pub(super) files: u64,
    /// Tasks of control.
    pub(super) tasks: usize,
    /// Of these, those that wait for their turn.
    pub(super) waiting: usize,
}

/// `show info`: the lines that plimsoll has something to say in, as of HAProxy 2.6.
pub(super) fn info(report: &Report, process: &Process) -> String {
    let seconds = report.uptime as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let uptime = format!(
        "{days}d {}h{:02}m{:02}s",
        hours % 24,
        minutes % 60,
        seconds % 60
    );
    let sum = |of: fn(&ListenStatus) -> u64| listens(report).map(of).sum::<u64>();
    let requests = sum(|listen| match mode(&listen.listen) {
        "http" => listen.requests,
        _ => listen.accepted,
    });
    let open = listens(report)
        .filter(|listen| listen.error.is_none())
        .count();
    let services = report.status.services.iter();
    let sent = services
        .flat_map(|s| &s.backends)
        .map(|b| b.counters.bytes_out);
    // A connection takes two descriptors, one to the client and one to the backend.
    let maxconn = process.files / 2;
    format!(
        "Name: plimsoll\n\
         Version: {version}\n\
         Release_date: -\n\
         Nbthread: {workers}\n\
         Nbproc: 1\n\
         Process_num: 1\n\
         Pid: {pid}\n\
         Uptime: {uptime}\n\
         Uptime_sec: {seconds}\n\
         Ulimit-n: {files}\n\
         Maxconn: {maxconn}\n\
         CurrConns: {connections}\n\
         CumConns: {accepted}\n\
         CumReq: {requests}\n\
         Maxpipes: 0\n\
         PipesUsed: 0\n\
         PipesFree: 0\n\
         Tasks: {tasks}\n\
         Run_queue: {waiting}\n\
         node: {node}\n\
         Stopping: {stopping}\n\
         Listeners: {open}\n\
         TotalBytesOut: {bytes}\n",
        version = report.version,
        workers = report.workers,
        pid = report.pid,
        files = process.files,
        connections = sum(|listen| listen.connections),
        accepted = sum(|listen| listen.accepted),
        tasks = process.tasks,
        waiting = process.waiting,
        node = process.node,
        stopping = u8::from(report.readiness.draining),
        bytes = sent.sum::<u64>(),
    )
}

/// `show backend`.
pub(super) fn backends(report: &Report, book: &Book) -> String {
    let mut text = String::from("# name\n");
    for service in &report.status.services {
        if let Some(proxy) = book.service(&service.name) {
            let _ = writeln!(text, "{}", proxy.name);
        }
    }
    text
}

/// `show servers state`, format 1.
///
/// # Errors
/// There is no such backend.
pub(super) fn servers_state(
    report: &Report,
    book: &Book,
    only: Option<&str>,
) -> Result<String, String> {
    let only = match only {
        Some(name) => Some(book.find_service(name).ok_or("Can't find backend.")?.1.iid),
        None => None,
    };
    let mut text = String::from(
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
         srv_iweight srv_time_since_last_change srv_check_status srv_check_result \
         srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn \
         srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
         srv_agent_port\n",
    );
    for service in &report.status.services {
        let Some(proxy) = book.service(&service.name) else {
            continue;
        };
        if only.is_some_and(|iid| iid != proxy.iid) {
            continue;
        }
        for server in &service.backends {
            let Some(known) = proxy.server(&server.addr) else {
                continue;
            };
            let (addr, port) = whereabouts(&server.addr);
            // SRV_CHK_ST_CONFIGURED and _ENABLED, or nothing.
            let check = if service.checked { 6 } else { 0 };
            let _ = writeln!(
                text,
                "{} {} {} {} {addr} {} {} {} {} {} 1 0 0 {check} 0 0 0 - {port} - 0 0 - - 0",
                proxy.iid,
                proxy.name,
                known.sid,
                known.name,
                operational(server),
                administrative(server),
                server.weight,
                server.weight_configured,
                server.since as u64,
            );
        }
    }
    Ok(text)
}

/// The address and port of a server; `-` for a Unix socket, 0 for the client's own port.
fn whereabouts(addr: &str) -> (String, u16) {
    match addr.parse::<SocketAddr>() {
        Ok(addr) => (addr.ip().to_string(), addr.port()),
        Err(_) if addr.starts_with("unix:") => ("-".into(), 0),
        Err(_) => (addr.into(), 0),
    }
}

/// 0 stopped, 2 running, 3 stopping: `enum srv_state`.
fn operational(server: &BackendStatus) -> u8 {
    match (server.halted, server.state.as_str()) {
        (Some(Halt::Maintenance), _) => 0,
        (Some(Halt::Drain), _) | (None, "ready") => 2,
        (None, "draining") => 3,
        _ => 0,
    }
}

/// 1 forced maintenance, 8 forced drain: `enum srv_admin`.
fn administrative(server: &BackendStatus) -> u8 {
    match server.halted {
        Some(Halt::Maintenance) => 1,
        Some(Halt::Drain) => 8,
        None => 0,
    }
}
