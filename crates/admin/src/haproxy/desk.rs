//! Finds the answer to a request.

use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_control::Command;
use plimsoll_control::status::BackendStatus;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::book::Book;
use super::csv;
use super::line::{HELP, Request, Server, Standing, Weight};
use super::lists::{self, Process};
use crate::asking::{ask, off_thread};
use crate::{Ask, Report};

/// So many reports are looked at, or read by clients, at once.
const REPORTS: usize = 4;

/// What all connections share.
pub(super) struct Desk {
    asks: mpsc::Sender<Ask>,
    /// Taken for one text at a time, never while anything is waited for.
    book: Arc<Mutex<Book>>,
    /// Places for long answers, kept until they are sent.
    pub(super) places: Semaphore,
}

/// A backend as control knows it.
struct Found {
    service: String,
    addr: String,
    status: BackendStatus,
}

impl Desk {
    pub(super) fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self {
            asks,
            book: Arc::default(),
            places: Semaphore::new(REPORTS),
        }
    }

    /// The answer to what is no matter of the connection alone, or why there is none.
    pub(super) async fn answer(&self, request: Request) -> Result<String, String> {
        match request {
            Request::Stat(filter) => {
                self.read(move |report, book| csv::render(report, book, &filter))
                    .await
            }
            Request::Info => {
                let process = process();
                self.read(move |report, _| Ok(lists::info(report, &process)))
                    .await
            }
            Request::ServersState(only) => {
                let read = move |report: &Report, book: &Book| {
                    lists::servers_state(report, book, only.as_deref())
                };
                self.read(read).await
            }
            Request::Backends => {
                self.read(|report, book| Ok(lists::backends(report, book)))
                    .await
            }
            Request::Version => {
                self.read(|report, _| Ok(format!("{}\n", report.version)))
                    .await
            }
            Request::GetWeight(server) => {
                let found = self.find(server).await?;
                let (weight, initial) = (found.status.weight, found.status.weight_configured);
                Ok(format!("{weight} (initial {initial})\n"))
            }
            Request::SetWeight(server, weight) => {
                let found = self.find(server).await?;
                let weight = wanted(weight, found.status.weight_configured);
                self.command(found, Command::Weight(weight)).await
            }
            Request::SetState(server, standing) => {
                let found = self.find(server).await?;
                let command = match standing {
                    Standing::Ready => Command::Ready,
                    Standing::Drain => Command::Drain,
                    Standing::Maintenance => Command::Maintain,
                };
                self.command(found, command).await
            }
            Request::Help => Ok(format!("{HELP}\n")),
            // Matters of the connection.
            Request::Timeout(_) | Request::Prompt | Request::Quit => Ok(String::new()),
        }
    }

    /// Makes something of a report, where nobody has to wait for it.
    async fn read<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Report, &Book) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let report = ask(&self.asks, Ask::Status).await.map_err(said)?;
        let book = self.book.clone();
        let made = off_thread(move || {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            book.update(&report.status);
            make(&report, &book)
        });
        made.await.map_err(said)?
    }

    async fn find(&self, server: Server) -> Result<Found, String> {
        self.read(move |report, book| {
            let (service, proxy) = book.find_service(&server.backend).ok_or_else(|| {
                let services = &report.status.services;
                let names = services.iter().filter_map(|s| book.service(&s.name));
                let names: Vec<&str> = names.take(8).map(|proxy| proxy.name.as_str()).collect();
                format!("No such backend. There are: {}.", names.join(", "))
            })?;
            let addr = proxy
                .find_server(&server.server)
                .ok_or_else(|| format!("No such server. {} has: {}.", proxy.name, proxy.known()))?;
            let status = report.status.services.iter().find(|s| s.name == service);
            let status = status.and_then(|s| s.backends.iter().find(|b| b.addr == addr));
            let status = status.ok_or("No such server.")?.clone();
            let (service, addr) = (service.to_owned(), addr.to_owned());
            Ok(Found {
                service,
                addr,
                status,
            })
        })
        .await
    }

    /// Nothing is said of what is done, as HAProxy does.
    async fn command(&self, found: Found, command: Command) -> Result<String, String> {
        let make = |reply| Ask::Command {
            service: found.service,
            backend: found.addr,
            command,
            reply,
        };
        match ask(&self.asks, make).await.map_err(said)? {
            Ok(_) => Ok(String::new()),
            Err(not_taken) => Err(format!("Not done: {}.", not_taken.error)),
        }
    }
}

fn said(why: crate::asking::Unanswered) -> String {
    format!("No answer: {why}.")
}

/// The weight to set; none is what the source says, as all of it is.
fn wanted(weight: Weight, configured: u32) -> Option<u32> {
    match weight {
        Weight::Absolute(weight) => Some(weight),
        Weight::Percent(100) => None,
        Weight::Percent(percent) => {
            let share = u64::from(configured) * u64::from(percent) / 100;
            Some(share.try_into().unwrap_or(u32::MAX))
        }
    }
}

fn process() -> Process {
    let runtime = Handle::current().metrics();
    let node = uname().nodename().to_string_lossy().into_owned();
    Process {
        node: node.replace(|c: char| c.is_whitespace() || c.is_control(), "_"),
        files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        tasks: runtime.num_alive_tasks(),
        waiting: runtime.global_queue_depth(),
    }
}
