//! `plimsoll status`: what goes where, and why.

mod aside;
mod latency;
mod limits;
mod vips;

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use plimsoll_admin::Report;
use plimsoll_config::nearest;
use plimsoll_control::status::{BackendStatus, RouteStatus, ServiceStatus, Status};

pub(super) use self::aside::put_aside;
use crate::commands::ask;
use crate::error::Error;
use crate::out;
use crate::table::{Colour, Paint, Side, Table, count, of_state, rate, span, visible};

/// Show services, listens, backends, routes, sources, and what is put aside.
///
/// Rates are averages of the last five to ten seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll status
  plimsoll status web --watch
  plimsoll status --json | jq '.services[].backends[] | {addr, state, reason}'")]
pub(crate) struct Show {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    admin: crate::cli::Admin,
    /// Print JSON, as the admin API gives it
    #[arg(long)]
    json: bool,
    /// Show it anew every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(1);
/// Cursor to the top left; clear from there.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

impl Show {
    pub(crate) fn run(self) -> Result<(), Error> {
        ask(self.admin.clone(), async |client| {
            loop {
                let mut report = client.status().await?;
                if let Some(name) = &self.service {
                    only(&mut report.status, name)?;
                }
                if self.json {
                    return out::json(&report);
                }
                let text = render(&report, self.service.is_none(), Paint(out::has_colour()));
                match (self.watch, out::is_terminal()) {
                    (false, _) => return out::print(&text),
                    (true, true) => out::print(&format!("{CLEAR}{text}"))?,
                    (true, false) => out::print(&format!("{text}\n"))?,
                }
                tokio::time::sleep(EVERY).await;
            }
        })
    }
}

/// Leaves only what belongs to a service.
fn only(status: &mut Status, name: &str) -> Result<(), Error> {
    if !status.services.iter().any(|service| service.name == name) {
        let aside = status
            .quarantine
            .iter()
            .find(|a| a.subject == format!("service `{name}`"));
        if let Some(aside) = aside {
            let why = &aside.reason;
            return Err(Error::Failed(format!(
                "service `{name}` is put aside: {why}"
            )));
        }
        let names = status.services.iter().map(|service| service.name.as_str());
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`plimsoll status` lists them".into(),
        };
        return Err(Error::Failed(format!("no service `{name}`: {hint}")));
    }
    status.services.retain(|service| service.name == name);
    status
        .routes
        .retain(|route| route.services.iter().any(|(to, _)| to == name));
    Ok(())
}

/// A report for people; `whole` shows what belongs to no service, too.
fn render(report: &Report, whole: bool, paint: Paint) -> String {
    let mut text = String::new();
    if whole {
        head(&mut text, report, paint);
    }
    for service in &report.status.services {
        show_service(&mut text, service, paint);
    }
    routes(&mut text, &report.status.routes, paint);
    if whole {
        tail(&mut text, &report.status, paint);
    }
    text
}

fn head(text: &mut String, report: &Report, paint: Paint) {
    let ready = match (report.readiness.ready, report.readiness.draining) {
        (true, _) => paint.text(Colour::Green, "ready"),
        (false, true) => paint.text(Colour::Yellow, "draining"),
        (false, false) => paint.text(Colour::Red, "not ready"),
    };
    let workers = count(report.workers as u64, "worker", "workers");
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "plimsoll {}  pid {}  up {}  {workers}  {ready}",
        report.version,
        report.pid,
        span(report.uptime),
    );
    for reason in &report.readiness.reasons {
        let _ = writeln!(text, "  {}", paint.text(Colour::Red, &visible(reason)));
    }
}

fn show_service(text: &mut String, service: &ServiceStatus, paint: Paint) {
    let rates = service.rates.unwrap_or_default();
    let _ = writeln!(
        text,
        "\nservice {}  {}  plane {} ({})",
        paint.text(Colour::Bold, &visible(&service.name)),
        service.scheduler,
        service.plane,
        service.plane_reason,
    );
    let _ = write!(
        text,
        "  {}/s, {} in all",
        rate(rates.requests),
        service.total
    );
    if service.unserved > 0 {
        let unserved = format!(", {} that no backend could serve", service.unserved);
        text.push_str(&paint.text(Colour::Red, &unserved));
    }
    if service.failed > 0 {
        let failed = format!(", {} that failed (502 or 504)", service.failed);
        text.push_str(&paint.text(Colour::Red, &failed));
    }
    if service.denied > 0 {
        let _ = write!(text, ", {} denied", service.denied);
    }
    for (n, what) in [
        (service.udp.evicted, "sessions put out for others"),
        (service.udp.dropped, "datagrams for which there was no room"),
    ] {
        if n > 0 {
            text.push_str(&paint.text(Colour::Yellow, &format!(", {n} {what}")));
        }
    }
    if service.compression.no_memory > 0 {
        let plain = service.compression.no_memory;
        let plain = format!(", {plain} not compressed for want of compress-memory");
        text.push_str(&paint.text(Colour::Yellow, &plain));
    }
    if service.unretried > 0 {
        let unretried = format!(", {} not tried again for want of budget", service.unretried);
        text.push_str(&paint.text(Colour::Yellow, &unretried));
    }
    let _ = writeln!(
        text,
        "; from {} ({})",
        service.origin.source, service.origin.entry
    );
    limits::show(text, service);
    if service.maintenance {
        let told = "in maintenance: clients get 503";
        let _ = writeln!(text, "  {}", paint.text(Colour::Yellow, told));
    }
    // That it is in maintenance has just been said.
    let does = service
        .does
        .iter()
        .filter(|does| !does.starts_with("maintenance"));
    let does: Vec<&str> = does.map(String::as_str).collect();
    if !does.is_empty() {
        let _ = writeln!(text, "  does {}", visible(&does.join("; ")));
    }
    latency::show(text, service);
    if let Some(error) = &service.error {
        let _ = writeln!(text, "  {}", paint.text(Colour::Red, &visible(error)));
    }
    for listen in &service.listens {
        let state = match (&listen.error, &service.error) {
            (Some(_), _) => paint.text(Colour::Red, "closed"),
            (None, Some(_)) => paint.text(Colour::Yellow, "see above"),
            (None, None) if listen.listen.ends_with("/udp") => {
                count(listen.connections, "session", "sessions")
            }
            (None, None) => count(listen.connections, "connection", "connections"),
        };
        let refused = listen
            .refused
            .iter()
            .map(|(status, n)| format!("{n} × {status}"));
        let refused = refused.collect::<Vec<_>>().join(", ");
        let refused = if refused.is_empty() {
            refused
        } else {
            format!(", refused {refused}")
        };
        let unsent = match listen.unsent {
            0 => String::new(),
            n => format!(", {n} not sent on"),
        };
        let lost = listen.lost.iter();
        let lost: String = lost
            .map(|(reason, n)| format!(", {n} lost ({reason})"))
            .collect();
        let listen = &listen.listen;
        let _ = writeln!(text, "  listen {listen}  {state}{refused}{unsent}{lost}");
    }
    if !service.accept_proxy.is_empty() {
        let networks = service.accept_proxy.join(", ");
        let _ = writeln!(text, "  PROXY header expected from {networks}");
    }
    if let Some(version) = &service.send_proxy {
        let _ = writeln!(text, "  PROXY header {version} to backends");
    }
    if let Some(p) = &service.persistence {
        let clients = count(p.clients, "client", "clients");
        let _ = write!(text, "  persistence: {clients}, {} kept", p.kept);
        for (n, what) in [(p.moved, "moved"), (p.forgotten, "forgotten when full")] {
            if n > 0 {
                let _ = write!(text, ", {n} {what}");
            }
        }
        text.push('\n');
    }
    if let Some(c) = &service.cookie {
        let _ = write!(text, "  cookie: {} kept, {} without", c.kept, c.none);
        for (n, what) in [
            (c.moved, "moved"),
            (c.unknown, "unknown"),
            (c.expired, "expired"),
        ] {
            if n > 0 {
                let _ = write!(text, ", {n} {what}");
            }
        }
        text.push('\n');
    }
    if let Some(sorry) = &service.sorry {
        let _ = writeln!(text, "  sorry server {sorry}");
    }
    if service.backends.is_empty() {
        let _ = writeln!(text, "  {}", paint.text(Colour::Yellow, "no backends"));
    }
    text.push_str(&backends(service).render("  ", paint));
}

fn backends(service: &ServiceStatus) -> Table {
    let mut table = Table::new(&[
        ("BACKEND", Side::Left),
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("SINCE", Side::Right),
        ("WEIGHT", Side::Right),
        ("ACTIVE", Side::Right),
        ("QUEUED", Side::Right),
        ("REQUESTS", Side::Right),
        ("RATE/S", Side::Right),
        ("FAILED", Side::Right),
        ("REASON", Side::Left),
    ]);
    for backend in &service.backends {
        table.row(cells(backend));
    }
    table
}

fn cells(backend: &BackendStatus) -> Vec<(String, Colour)> {
    let plain = |text: String| (text, Colour::None);
    let counters = &backend.counters;
    let failed = counters.failures + counters.connect_failures;
    let weight = match backend.weight == backend.weight_configured {
        true => backend.weight.to_string(),
        false => format!("{} (of {})", backend.weight, backend.weight_configured),
    };
    let active = match backend.maxconn {
        0 => counters.active.to_string(),
        max => format!("{}/{max}", counters.active),
    };
    let mut reason = backend.error.as_ref().unwrap_or(&backend.reason).clone();
    let overloaded = counters.overloaded.then(|| match backend.lower {
        0 => format!("nothing new until below ¾ of {}", backend.upper),
        lower => format!("nothing new until below {lower}"),
    });
    let slow = (counters.slow_start).map(|percent| format!("slow start: {percent} % of its share"));
    for more in overloaded.into_iter().chain(slow) {
        let comma = if reason.is_empty() { "" } else { ", " };
        reason += &format!("{comma}{more}");
    }
    vec![
        plain(backend.addr.clone()),
        plain(backend.name.clone()),
        (backend.state.clone(), of_state(&backend.state)),
        plain(span(backend.since)),
        plain(weight),
        plain(active),
        plain(counters.queued.to_string()),
        plain(counters.requests.to_string()),
        plain(rate(backend.rates.unwrap_or_default().requests)),
        (
            failed.to_string(),
            if failed > 0 {
                Colour::Red
            } else {
                Colour::None
            },
        ),
        plain(reason),
    ]
}

fn routes(text: &mut String, routes: &[RouteStatus], paint: Paint) {
    let mut table = Table::new(&[
        ("ROUTE", Side::Left),
        ("HOST", Side::Left),
        ("PATH", Side::Left),
        ("SERVICE", Side::Left),
        ("LISTEN", Side::Left),
        ("PRIORITY", Side::Right),
        ("DOES", Side::Left),
        ("ERROR", Side::Left),
    ]);
    for route in routes {
        let services = match route.services.as_slice() {
            [(only, _)] => only.clone(),
            many => {
                let shares = many
                    .iter()
                    .map(|(name, weight)| format!("{name} × {weight}"));
                shares.collect::<Vec<_>>().join(", ")
            }
        };
        let priority = match route.priority {
            0 => String::new(),
            n => n.to_string(),
        };
        table.row(vec![
            (route.name.clone(), Colour::None),
            (route.hosts.join(", "), Colour::None),
            (route.path.clone(), Colour::None),
            (services, Colour::None),
            (route.listens.join(", "), Colour::None),
            (priority, Colour::None),
            (route.does.join("; "), Colour::None),
            (route.error.clone().unwrap_or_default(), Colour::Red),
        ]);
    }
    if !routes.is_empty() {
        text.push('\n');
    }
    text.push_str(&table.render("", paint));
}

fn tail(text: &mut String, status: &Status, paint: Paint) {
    put_aside(text, status.quarantine.iter().collect(), paint);
    text.push('\n');
    for source in &status.sources {
        let state = match source.state.as_str() {
            "fresh" => source.state.clone(),
            state => paint.text(Colour::Red, state),
        };
        let _ = writeln!(
            text,
            "source {}  {state} for {}, {}",
            visible(&source.name),
            span(source.since),
            count(source.entries as u64, "entry", "entries"),
        );
        for line in source.reason.lines() {
            let _ = writeln!(text, "  {}", visible(line));
        }
    }
    vips::show(text, &status.vips, paint);
    for (nth, plane) in status.planes.iter().enumerate() {
        // A plane that carries nothing and is well is nobody's concern, but for the first.
        let idle = plane.services == 0 && plane.repairs == 0 && plane.failures.is_empty();
        if nth > 0 && idle && plane.error.is_none() {
            continue;
        }
        let _ = writeln!(
            text,
            "plane {}  {}, {}, {}",
            plane.name,
            count(plane.services as u64, "service", "services"),
            count(plane.audits, "audit", "audits"),
            count(plane.repairs, "repair", "repairs"),
        );
        let noted = plane.packets.iter().flat_map(|packets| &packets.noted);
        let noted = noted.filter(|(_, count)| *count > 0);
        let noted: Vec<String> = noted.map(|(why, count)| format!("{why} {count}")).collect();
        if !noted.is_empty() {
            let _ = writeln!(text, "  packets: {}", noted.join(", "));
        }
        for problem in plane.error.iter().map(|e| visible(e)) {
            let _ = writeln!(text, "  {}", paint.text(Colour::Red, &problem));
        }
        for failure in &plane.failures {
            let what = format!("{}: {}", failure.subject, failure.reason);
            let _ = writeln!(text, "  {}", paint.text(Colour::Red, &visible(&what)));
        }
    }
}

#[cfg(test)]
mod tests;
