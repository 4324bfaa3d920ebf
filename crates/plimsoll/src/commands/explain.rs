//! `plimsoll explain`: where would this go, and why?

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use plimsoll_admin::{ClientError, ExplainReport, encode};
use plimsoll_control::status::AsideStatus;
use plimsoll_model::Proto;
use plimsoll_plane::{Plane, Tuple};
use plimsoll_plane_ebpf::EbpfPlane;

use crate::commands::ask;
use crate::commands::status::put_aside;
use crate::error::Error;
use crate::out;
use crate::table::{Paint, visible};

/// Say where a connection or request would go now, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll explain 192.0.2.7 192.0.2.1:80 --host shop.example --path /cart
  plimsoll explain 192.0.2.7:40000 192.0.2.1:5432
  plimsoll explain 192.0.2.7:40000 192.0.2.1:53/udp")]
pub(crate) struct Explain {
    /// The client's address, with or without a port
    #[arg(value_name = "CLIENT")]
    client: String,
    /// What it connects to; for UDP with `/udp`
    #[arg(value_name = "VIP:PORT[/udp]", value_parser = destination)]
    to: String,
    /// The host that an HTTP request asks for
    #[arg(long)]
    host: Option<String>,
    /// The path that an HTTP request asks for
    #[arg(long)]
    path: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

impl Explain {
    pub(crate) fn run(self) -> Result<(), Error> {
        let mut query = format!("client={}&to={}", encode(&self.client), encode(&self.to));
        for (key, value) in [("host", &self.host), ("path", &self.path)] {
            if let Some(value) = value {
                // Writing to a String cannot fail, here and below.
                let _ = write!(query, "&{key}={}", encode(value));
            }
        }
        ask(self.admin.clone(), async |client| {
            let report = match client.explain(&query).await {
                // Packets go on without it, and so does what they go by.
                Err(error @ ClientError::NoDaemon { .. }) => self.without_daemon().ok_or(error)?,
                told => told?,
            };
            match self.json {
                true => out::json(&report),
                false => out::print(&render(&report)),
            }
        })
    }
}

impl Explain {
    /// What the programs in the kernel do that a daemon left; none if there are none, or nothing that
    /// could be asked of them was asked.
    fn without_daemon(&self) -> Option<ExplainReport> {
        let (address, proto) = match self.to.strip_suffix("/udp") {
            Some(address) => (address, Proto::Udp),
            None => (self.to.as_str(), Proto::Tcp),
        };
        let ip = || self.client.parse::<IpAddr>();
        let client = (self.client.parse().ok()).or_else(|| Some(SocketAddr::new(ip().ok()?, 0)))?;
        let tuple = Tuple {
            client,
            destination: address.parse().ok()?,
            proto,
            host: self.host.clone(),
            path: self.path.clone(),
        };
        let plane = EbpfPlane::look().ok()??;
        let mut told = plane.explain(&tuple);
        let text = "no daemon runs: this is what its programs in the kernel go on with";
        told.steps.insert(0, text.to_owned());
        Some(ExplainReport::new(&tuple, plane.name(), told))
    }
}

/// The text itself, if it is one that the API understands.
fn destination(text: &str) -> Result<String, std::net::AddrParseError> {
    let address = text.strip_suffix("/udp").unwrap_or(text);
    address.parse::<SocketAddr>().map(|_| text.to_owned())
}

fn render(report: &ExplainReport) -> String {
    let mut text = String::new();
    for step in &report.steps {
        let _ = writeln!(text, "  {}", visible(step));
    }
    let result = match (&report.nowhere, &report.service, &report.backend) {
        (Some(why), ..) => match report.status {
            Some(status) => format!("answered {status}: {why}"),
            None => format!("goes nowhere: {why}"),
        },
        (None, _, Some(backend)) if report.backend_name.is_empty() => format!("goes to {backend}"),
        (None, _, Some(backend)) => format!("goes to {backend} ({})", report.backend_name),
        (None, Some(service), None) => {
            format!("goes to one of the backends of service {service}")
        }
        (None, None, None) => "goes to no single service: see above".into(),
    };
    let _ = writeln!(text, "{} (plane {})", visible(&result), report.plane);
    let quarantine: Vec<&AsideStatus> = report.quarantine.iter().collect();
    put_aside(&mut text, quarantine, Paint(out::has_colour()));
    text
}
