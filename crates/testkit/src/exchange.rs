//! The exchange over plain TCP: a line `ID LENGTH` and so many bytes are answered with a line
//! `BACKEND ID LENGTH` and the same bytes.

use tokio::io::AsyncRead;

use crate::payload;
use crate::wire::{Wire, WireError};

/// An exchange that is asked for.
pub(crate) struct Ask {
    id: String,
    payload: Vec<u8>,
}

impl Ask {
    /// One with so many bytes that follow from its id.
    pub(crate) fn new(id: &str, bytes: usize) -> Self {
        Self {
            id: id.to_owned(),
            payload: payload::filler(id, bytes),
        }
    }

    /// The bytes that ask.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let line = format!("{} {}\n", self.id, self.payload.len());
        [line.as_bytes(), &self.payload].concat()
    }

    /// The bytes that a backend answers with.
    pub(crate) fn answer(&self, backend: &str) -> Vec<u8> {
        let line = format!("{backend} {} {}\n", self.id, self.payload.len());
        [line.as_bytes(), &self.payload].concat()
    }

    /// Reads what somebody asks for.
    pub(crate) async fn read<S: AsyncRead + Unpin>(wire: &mut Wire<S>) -> Result<Self, WireError> {
        let line = wire.line().await?;
        let parts = line
            .split_once(' ')
            .and_then(|(id, length)| Some((id, length.parse().ok()?)));
        let Some((id, length)) = parts else {
            return Err(WireError::Malformed(format!("no exchange: {line:?}")));
        };
        Ok(Self {
            id: id.to_owned(),
            payload: wire.exactly(length).await?,
        })
    }

    /// Reads an answer to this and checks it; the backend that gave it.
    ///
    /// # Errors
    /// In words: it is cut off, or another than must come.
    pub(crate) async fn read_answer<S: AsyncRead + Unpin>(
        &self,
        wire: &mut Wire<S>,
    ) -> Result<String, String> {
        let line = wire.line().await.map_err(|error| error.to_string())?;
        let backend = line.split(' ').next().unwrap_or_default().to_owned();
        let must = format!("{backend} {} {}", self.id, self.payload.len());
        if line != must {
            return Err(format!("answered {line:?} instead of {must:?}"));
        }
        let got = wire
            .exactly(self.payload.len())
            .await
            .map_err(|error| error.to_string())?;
        payload::compare(&got, &self.payload)?;
        Ok(backend)
    }
}
