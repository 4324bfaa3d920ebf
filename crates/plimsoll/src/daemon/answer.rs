//! Answers to admins.

use std::time::Instant;

use plimsoll_admin::{
    Ask, Done, ExplainReport, FlowsReport, Maintained, NotTaken, Readiness, Report,
};
use plimsoll_config::nearest;
use plimsoll_control::CommandError;
use plimsoll_control::status::AsideStatus;
use plimsoll_model::{BackendAddr, Name};
use plimsoll_plane::{Explanation, FlowFilter, Tuple};
use tracing::info;

use super::Daemon;

/// In a cursor of flows, the bits from here on are the number of the plane; those below are its own.
const PLANE: u32 = 56;

impl Daemon {
    /// Answers. Whoever does not wait for the answer any more does not get one.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => drop(reply.send(self.report())),
            Ask::Readiness(reply) => drop(reply.send(self.readiness())),
            Ask::Flows(filter, cursor, reply) => drop(reply.send(self.flows(&filter, cursor))),
            Ask::Explain(tuple, reply) => drop(reply.send(self.explain(&tuple))),
            Ask::Reload(reply) => {
                info!("asked to read the sources again");
                self.reload();
                let _ = reply.send(());
            }
            Ask::Maintain { service, on, reply } => {
                let done = match self.control.maintain(&service, on) {
                    Ok(()) => {
                        self.step();
                        let known = self.control.desired().services.get(service.as_str());
                        let http = known.and_then(|known| known.spec.http.as_ref());
                        let said = http.and_then(|http| http.maintenance.as_ref());
                        let maintenance = said.is_some_and(|said| said.on);
                        Ok(Maintained {
                            service,
                            maintenance,
                        })
                    }
                    Err(error) => Err(self.not_taken(error)),
                };
                drop(reply.send(done));
            }
            Ask::Command {
                service,
                backend,
                command,
                reply,
            } => {
                let taken = self
                    .control
                    .command(&service, &backend, command, "an admin");
                let done = match taken {
                    Ok(addr) => {
                        self.step();
                        Ok(self.done(&service, &addr))
                    }
                    Err(error) => Err(self.not_taken(error)),
                };
                drop(reply.send(done));
            }
        }
    }

    fn done(&self, service: &str, addr: &BackendAddr) -> Done {
        let known = self.control.desired().services.get(service);
        let backend = known.and_then(|service| service.backends.get(addr));
        Done {
            service: service.into(),
            backend: addr.to_string(),
            state: backend.map_or("gone", |b| b.status.state.as_str()).into(),
            weight: backend.map_or(0, |b| b.weight),
        }
    }

    fn not_taken(&self, error: CommandError) -> NotTaken {
        let nearest = match &error {
            CommandError::UnknownService(name) => {
                let names = self.control.desired().services.keys();
                nearest(name, names.map(Name::as_str)).map(str::to_owned)
            }
            _ => None,
        };
        NotTaken { error, nearest }
    }

    pub(crate) fn report(&self) -> Report {
        let now = Instant::now();
        let mut status = self.control.status(now);
        self.rates.fill(now, &mut status);
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime: now.saturating_duration_since(self.started).as_millis() as f64 / 1000.0,
            workers: self.workers,
            readiness: self.readiness(),
            status,
        }
    }

    fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.finishing {
            reasons.push("plimsoll drains before it ends".into());
        }
        if !self.is_settled() {
            reasons.push("the first configuration is not in force yet".into());
        }
        reasons.extend(
            self.announcer
                .failures()
                .map(|(subject, why)| format!("{subject}: {why}")),
        );
        let waiting = self.control.waiting();
        reasons.extend(
            waiting.map(|(name, why)| format!("service `{name}` is put aside for now: {why}")),
        );
        let unread = self.announcer.unread();
        reasons.extend(unread.map(|(plane, why)| format!("plane {plane} cannot be read: {why}")));
        Readiness {
            ready: reasons.is_empty(),
            draining: self.finishing,
            reasons,
        }
    }

    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowsReport, String> {
        if self.finishing {
            return Err("plimsoll drains before it ends: flows cannot be listed any more".into());
        }
        let planes: Vec<&'static str> = self.control.planes().collect();
        let at = usize::try_from(cursor >> PLANE).unwrap_or(usize::MAX);
        let mut within = cursor & ((1 << PLANE) - 1);
        for (nth, name) in planes.iter().enumerate().skip(at) {
            let Some(plane) = self.control.plane_mut(name) else {
                continue;
            };
            let mut page = plane
                .flows(filter, within)
                .map_err(|error| error.to_string())?;
            let next = page.next.map(|next| (nth as u64) << PLANE | next);
            let more = (nth + 1 < planes.len()).then_some((nth as u64 + 1) << PLANE);
            page.next = next.or(more);
            // A page without flows that leads to the next plane says nothing.
            if !page.flows.is_empty() || next.is_some() {
                return Ok(page.into());
            }
            within = 0;
        }
        Ok(FlowsReport::default())
    }

    /// What the plane says that takes what the tuple is sent to; if none does, the first.
    fn explain(&mut self, tuple: &Tuple) -> ExplainReport {
        let planes: Vec<&'static str> = self.control.planes().collect();
        let mut told: Option<(&'static str, Explanation)> = None;
        for name in planes {
            let plane = self.control.plane_mut(name);
            let Some(explanation) = plane.map(|plane| plane.explain(tuple)) else {
                continue;
            };
            let takes = explanation.service.is_some() || explanation.route.is_some();
            if takes || told.is_none() {
                told = Some((name, explanation));
            }
            if takes {
                break;
            }
        }
        let Some((name, explanation)) = told else {
            return ExplainReport::default();
        };
        let quarantine = self.reasons(&explanation, tuple.host.as_deref());
        ExplainReport {
            quarantine,
            ..ExplainReport::new(tuple, name, explanation)
        }
    }

    /// What is put aside that may be why something goes nowhere.
    fn reasons(&self, explanation: &Explanation, host: Option<&str>) -> Vec<AsideStatus> {
        let now = Instant::now();
        match (&explanation.nowhere, &explanation.service, host) {
            (Some(_), Some(service), _) => self.control.asides_of_service(now, service),
            (Some(_), None, Some(host)) => self.control.asides_of_host(now, host),
            _ => Vec::new(),
        }
    }
}
