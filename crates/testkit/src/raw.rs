//! A connection for tests that care about every byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Ending;
use crate::wire::{Head, Response, Wire, WireError, is_reset};
use crate::{Body, Place};

/// A TCP connection that sends what it is given and reads messages properly.
#[derive(Debug)]
pub struct Raw {
    wire: Wire<TcpStream>,
}

impl Raw {
    /// Connects from where the test runs, within five seconds.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_from(&Place::Here, address).await
    }

    /// Connects from a namespace, within five seconds.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect_from(place: &Place, address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(place.connect(address).await?))
    }

    /// On a connection that was made in some other way.
    pub fn over(stream: TcpStream) -> Self {
        Self {
            wire: Wire::new(stream),
        }
    }

    /// Connects from this local address, such as one of 127.0.0.0/8, within five seconds.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect_as(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind((source, 0).into())?;
        let stream =
            tokio::time::timeout(Duration::from_secs(5), socket.connect(address)).await??;
        Ok(Self {
            wire: Wire::new(stream),
        })
    }

    /// Its own address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.wire.stream.local_addr()
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref()).await
    }

    /// Sends pieces, each in a segment of its own, with a pause after each.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send_pieces<T: AsRef<[u8]>>(
        &mut self,
        pieces: &[T],
        pause: Duration,
    ) -> io::Result<()> {
        for piece in pieces {
            self.send(piece).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Sends a GET for this host and target and reads its response.
    ///
    /// # Errors
    /// It cannot be sent, or see [`Self::read_response`].
    pub async fn get(
        &mut self,
        host: &str,
        target: &str,
        bound: Duration,
    ) -> Result<Response, WireError> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await?;
        self.read_response(bound).await
    }

    /// Reads a whole response to a request that was no HEAD: interim responses, head, body by its
    /// length, its chunks or the end of the connection.
    ///
    /// # Errors
    /// It is cut off, not HTTP/1.1, or not whole within the bound.
    pub async fn read_response(&mut self, bound: Duration) -> Result<Response, WireError> {
        self.read_response_to("GET", bound).await
    }

    /// As [`Self::read_response`], to a request of this method.
    ///
    /// # Errors
    /// As there.
    pub async fn read_response_to(
        &mut self,
        method: &str,
        bound: Duration,
    ) -> Result<Response, WireError> {
        match tokio::time::timeout(bound, self.wire.response(method)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(bound)),
        }
    }

    /// Reads one head, interim or final, and leaves what follows unread.
    ///
    /// # Errors
    /// As [`Self::read_response`].
    pub async fn read_head(&mut self, bound: Duration) -> Result<Head, WireError> {
        match tokio::time::timeout(bound, self.wire.head()).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(bound)),
        }
    }

    /// Reads the body that belongs to a head that [`Self::read_head`] gave.
    ///
    /// # Errors
    /// As [`Self::read_response`].
    pub async fn read_body(&mut self, head: &Head, bound: Duration) -> Result<Body, WireError> {
        let framing = head.framing(Some("GET"))?;
        match tokio::time::timeout(bound, self.wire.body(framing)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(bound)),
        }
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// As [`Self::read_response`].
    pub async fn read_exact(
        &mut self,
        count: usize,
        bound: Duration,
    ) -> Result<Vec<u8>, WireError> {
        match tokio::time::timeout(bound, self.wire.exactly(count)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(bound)),
        }
    }

    /// Reads until the other side closes or resets; what came, and how it ended.
    ///
    /// # Errors
    /// It does not end within the bound.
    pub async fn read_to_end(&mut self, bound: Duration) -> Result<(Vec<u8>, Ending), WireError> {
        let end = async {
            loop {
                match self.wire.fill().await {
                    Ok(0) => return Ok(Ending::Close),
                    Ok(_) => {}
                    Err(error) if is_reset(&error) => return Ok(Ending::Reset),
                    Err(error) => return Err(error),
                }
            }
        };
        match tokio::time::timeout(bound, end).await {
            Ok(ending) => Ok((std::mem::take(&mut self.wire.buffer), ending?)),
            Err(_) => Err(self.timed_out(bound)),
        }
    }

    /// What has been received and not been read.
    pub fn unread(&self) -> &[u8] {
        &self.wire.buffer
    }

    /// Says that nothing more will be sent (FIN); the other direction stays open.
    ///
    /// # Errors
    /// What the system says.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.wire.stream.shutdown().await
    }

    /// Cuts the connection off with a RST.
    ///
    /// # Errors
    /// What the system says.
    pub fn reset(self) -> io::Result<()> {
        self.wire.stream.set_zero_linger()
    }

    fn timed_out(&mut self, after: Duration) -> WireError {
        WireError::TimedOut {
            after,
            got: self.wire.buffer.clone(),
        }
    }
}
