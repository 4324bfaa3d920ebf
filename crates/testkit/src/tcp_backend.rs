//! A TCP server that behaves as told.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::Place;
use crate::exchange;
use crate::http_backend::{echo, send, until_gone};
use crate::server::{Accepted, Counters, Ending, Serve, Server, Stats};
use crate::wire::WireError;

/// How a TCP backend behaves from now on. The default answers exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpBehaviour {
    /// Waits so long before it answers.
    pub delay: Duration,
    /// What it answers.
    pub answer: TcpAnswer,
}

impl TcpBehaviour {
    /// Answers so, at once.
    pub fn answering(answer: TcpAnswer) -> Self {
        Self {
            delay: Duration::ZERO,
            answer,
        }
    }
}

/// What a TCP backend does with a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TcpAnswer {
    /// Exchanges, one after the other: a line `ID LENGTH` and so many bytes come, a line
    /// `BACKEND ID LENGTH` and the same bytes go back.
    #[default]
    Exchange,
    /// Sends back whatever comes; when the other side is done, so is this one.
    Echo,
    /// Speaks first: sends its id and a line feed, then echoes.
    Greet,
    /// Reads everything until the other side is done (half-closed), and only then sends back a line
    /// `BACKEND LENGTH SUM` (FNV-1a, 64 bits, in hexadecimal) and closes.
    Sum,
    /// Takes everything, answers nothing.
    Never,
    /// Ends the connection as soon as it is accepted.
    CutAtOnce(Ending),
    /// Takes one exchange, answers half of it and ends the connection.
    CutHalfway(Ending),
}

/// A TCP server that tells who it is, and misbehaves as it is told. It stops when it is dropped.
pub struct TcpBackend {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    behaviour: watch::Sender<TcpBehaviour>,
    counters: Arc<Counters>,
}

impl TcpBackend {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(id: &str) -> io::Result<Self> {
        Self::start_at(id, &Place::Here, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one at an address of a place; port 0 is any free one.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start_at(id: &str, place: &Place, address: SocketAddr) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            behaviour: watch::Sender::new(TcpBehaviour::default()),
            counters: Arc::clone(&counters),
        });
        let handler: Arc<dyn Serve> = Arc::clone(&shared) as _;
        let server = Server::start(place.clone(), address, counters, handler)?;
        Ok(Self { server, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its name in the answers.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Its counts; requests are exchanges, or connections of the other kinds.
    pub fn stats(&self) -> Stats {
        self.server.stats()
    }

    /// Behaves so: exchanges from the next one on, everything else from the next connection on.
    pub fn behave(&self, behaviour: TcpBehaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// Closes the listener: connections are refused from when this returns. Open ones stay.
    pub async fn refuse(&self) {
        self.server.refuse().await;
    }

    /// Listens again, at the same address.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn listen_again(&self) -> io::Result<()> {
        self.server.listen_again()
    }

    /// Ends all connections and closes the listener, as when its process is killed; back when they
    /// are gone.
    pub async fn kill(&self, ending: Ending) {
        self.server.kill(ending).await;
    }
}

impl Serve for Shared {
    fn serve<'a>(
        &'a self,
        conn: &'a mut Accepted,
    ) -> Pin<Box<dyn Future<Output = Ending> + Send + 'a>> {
        // A client that goes away is no error of a server.
        Box::pin(async move { self.connection(conn).await.unwrap_or(Ending::Close) })
    }
}

impl Shared {
    async fn connection(&self, conn: &mut Accepted) -> Result<Ending, WireError> {
        let first = self.behaviour.borrow().clone();
        match first.answer {
            TcpAnswer::Exchange | TcpAnswer::CutHalfway(_) => loop {
                let ask = exchange::Ask::read(&mut conn.wire).await?;
                let _active = self.counters.request();
                let now = self.behaviour.borrow().clone();
                tokio::time::sleep(now.delay).await;
                let answer = ask.answer(&self.id);
                if let TcpAnswer::CutHalfway(ending) = now.answer {
                    send(conn, answer.get(..answer.len() / 2).unwrap_or_default()).await?;
                    // As with HTTP: a RST overtakes what has not been read yet.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Ok(ending);
                }
                send(conn, &answer).await?;
            },
            TcpAnswer::CutAtOnce(ending) => return Ok(ending),
            TcpAnswer::Never => {
                let _active = self.counters.request();
                return Ok(until_gone(conn).await);
            }
            TcpAnswer::Sum => {
                let _active = self.counters.request();
                while conn.wire.fill().await? > 0 {}
                let (length, sum) = (
                    conn.wire.buffer.len(),
                    crate::payload::sum(&conn.wire.buffer),
                );
                tokio::time::sleep(first.delay).await;
                send(
                    conn,
                    format!("{} {length} {sum:016x}\n", self.id).as_bytes(),
                )
                .await?;
                conn.wire.buffer.clear();
            }
            TcpAnswer::Echo | TcpAnswer::Greet => {
                let _active = self.counters.request();
                tokio::time::sleep(first.delay).await;
                if first.answer == TcpAnswer::Greet {
                    send(conn, format!("{}\n", self.id).as_bytes()).await?;
                }
                echo(conn).await?;
            }
        }
        Ok(Ending::Close)
    }
}
