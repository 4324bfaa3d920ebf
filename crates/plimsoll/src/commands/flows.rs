//! `plimsoll flows`: what is in flight.

use clap::Args;
use plimsoll_admin::{Client, FlowReport, FlowsReport, encode};

use crate::commands::ask;
use crate::error::Error;
use crate::out;
use crate::table::{Colour, Paint, Side, Table, span};

/// List live connections and requests, the oldest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll flows --service web
  plimsoll flows --backend 10.0.0.7:80 --json | jq length")]
pub(crate) struct Flows {
    /// Only those of this service
    #[arg(long)]
    service: Option<String>,
    /// Only those to this backend
    #[arg(long, value_name = "ADDR")]
    backend: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

/// So many are asked for at once.
const PAGE: usize = 1000;

impl Flows {
    pub(crate) fn run(self) -> Result<(), Error> {
        let mut filter = String::new();
        for (key, value) in [("service", &self.service), ("backend", &self.backend)] {
            if let Some(value) = value {
                filter.push_str(&format!("{key}={}&", encode(value)));
            }
        }
        ask(self.admin.clone(), async |client| {
            let flows = self.collect(&client, &filter).await?;
            match self.json {
                true => out::json(&flows),
                false => out::print(&render(&flows, Paint(out::has_colour()))),
            }
        })
    }

    async fn collect(&self, client: &Client, filter: &str) -> Result<Vec<FlowReport>, Error> {
        let mut flows = Vec::new();
        let mut cursor = 0;
        while flows.len() < self.limit {
            let left = (self.limit - flows.len()).min(PAGE);
            let query = format!("{filter}limit={left}&cursor={cursor}");
            let FlowsReport { flows: page, next } = client.flows(&query).await?;
            flows.extend(page);
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        Ok(flows)
    }
}

fn render(flows: &[FlowReport], paint: Paint) -> String {
    let mut table = Table::new(&[
        ("CLIENT", Side::Left),
        ("LISTEN", Side::Left),
        ("PHASE", Side::Left),
        ("AGE", Side::Right),
        ("SERVICE", Side::Left),
        ("BACKEND", Side::Left),
    ]);
    for flow in flows {
        let cells = [
            flow.client.clone(),
            flow.listen.clone(),
            flow.phase.clone(),
            span(flow.age),
            flow.service.clone().unwrap_or_default(),
            flow.backend.clone().unwrap_or_default(),
        ];
        table.row(cells.map(|cell| (cell, Colour::None)).into());
    }
    table.render("", paint)
}
