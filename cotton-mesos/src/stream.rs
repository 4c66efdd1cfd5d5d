//! A streaming response, record by record.

use crate::recordio::{Decoder, RecordError};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// Why there are no more records.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// Nothing came in time.
    Silent,
    /// The other side closed it, between two records.
    Closed,
    /// The connection broke.
    Broken(reqwest::Error),
    /// It is damaged, or was closed within a record.
    Damaged(RecordError),
}

/// The records of a response that does not end.
#[derive(Debug)]
pub(crate) struct RecordStream {
    response: reqwest::Response,
    decoder: Decoder,
}

impl RecordStream {
    /// Of a response that was just begun. A larger record than that ends it.
    pub(crate) fn new(response: reqwest::Response, record_bytes_max: usize) -> Self {
        Self { response, decoder: Decoder::new(record_bytes_max) }
    }

    /// The next record; waits for it as long as bytes keep coming within `silence_max`. Cancelling this loses nothing.
    pub(crate) async fn next(&mut self, silence_max: Duration) -> Result<Bytes, StreamEnd> {
        loop {
            if let Some(record) = self.decoder.next_record().map_err(StreamEnd::Damaged)? {
                return Ok(record);
            }
            match timeout(silence_max, self.response.chunk()).await {
                Err(_) => return Err(StreamEnd::Silent),
                Ok(Err(error)) => return Err(StreamEnd::Broken(error)),
                Ok(Ok(None)) => {
                    return Err(self.decoder.finish().map_or_else(StreamEnd::Damaged, |()| StreamEnd::Closed));
                }
                Ok(Ok(Some(chunk))) => self.decoder.push(&chunk),
            }
        }
    }
}
