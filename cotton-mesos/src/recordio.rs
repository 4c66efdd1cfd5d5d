//! RecordIO, the framing of Mesos' streaming responses: `<length in decimal>\n<that many bytes>`, over and over.
//!
//! Pure: bytes go in as they arrive, records come out; how the bytes were cut into chunks makes no difference. What a
//! peer can make us hold is bounded by the largest record allowed.

use bytes::{Bytes, BytesMut};

/// More digits than any length that a decoder accepts.
const HEADER_BYTES_MAX: usize = 20;

/// Why a stream cannot be decoded any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A length was expected, and something else came.
    #[error("stream is not in RecordIO format: a record does not start with its length")]
    Garbage,
    /// A record is larger than allowed.
    #[error("record is larger than the {max} bytes allowed")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The stream ended within a record.
    #[error("stream ended within a record")]
    Truncated,
}

/// Takes a stream apart into records.
///
/// ```
/// use cotton_mesos::recordio::Decoder;
/// let mut decoder = Decoder::new(1024);
/// decoder.push(b"5\nhel");
/// assert_eq!(decoder.next_record(), Ok(None));
/// decoder.push(b"lo0\n");
/// assert_eq!(decoder.next_record(), Ok(Some("hello".into())));
/// assert_eq!(decoder.next_record(), Ok(Some("".into())));
/// assert_eq!(decoder.finish(), Ok(()));
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    record_bytes_max: usize,
    /// Length of the record whose header was read.
    length: Option<usize>,
    failed: Option<RecordError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(record_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), record_bytes_max, length: None, failed: None }
    }

    /// Adds bytes that arrived. Take all records out before adding more, or they pile up here.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete record; `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the stream is damaged. There is no way to find back into step: every later call fails the same way.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.try_next().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        })
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// When it ended within a record, or was damaged before.
    pub fn finish(&self) -> Result<(), RecordError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.length.is_none() && self.buffer.is_empty() => Ok(()),
            None => Err(RecordError::Truncated),
        }
    }

    fn try_next(&mut self) -> Result<Option<Bytes>, RecordError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.header()? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            self.length = Some(length);
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn header(&mut self) -> Result<Option<usize>, RecordError> {
        let window = &self.buffer[..self.buffer.len().min(HEADER_BYTES_MAX + 1)];
        let digits = window.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(end) = window.get(digits) else {
            // Only digits so far: more may follow, but not without end.
            return if digits > HEADER_BYTES_MAX { Err(self.too_large()) } else { Ok(None) };
        };
        if *end != b'\n' || digits == 0 {
            return Err(RecordError::Garbage);
        }
        let text = std::str::from_utf8(&window[..digits]).map_err(|_| RecordError::Garbage)?;
        let length: usize = text.parse().map_err(|_| self.too_large())?;
        if length > self.record_bytes_max {
            return Err(self.too_large());
        }
        drop(self.buffer.split_to(digits + 1));
        Ok(Some(length))
    }

    fn too_large(&self) -> RecordError {
        RecordError::TooLarge { max: self.record_bytes_max }
    }
}

/// Frames one record.
pub fn encode(record: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(record.len() + HEADER_BYTES_MAX);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]], max: usize) -> (Vec<Bytes>, Result<(), RecordError>) {
        let (mut decoder, mut records) = (Decoder::new(max), Vec::new());
        for chunk in chunks {
            decoder.push(chunk);
            loop {
                match decoder.next_record() {
                    Ok(Some(record)) => records.push(record),
                    Ok(None) => break,
                    Err(error) => return (records, Err(error)),
                }
            }
        }
        (records, decoder.finish())
    }

    #[test]
    fn damaged_streams_have_a_reason() {
        let too_large = RecordError::TooLarge { max: 8 };
        for (stream, expected) in [
            ("", Ok(())),
            ("0\n", Ok(())),
            ("8\n12345678", Ok(())),
            ("9\n123456789", Err(too_large.clone())),
            ("99999999999999999999999999999999", Err(too_large.clone())),
            ("99999999999999999999\n", Err(too_large)),
            ("\n", Err(RecordError::Garbage)),
            ("-1\n", Err(RecordError::Garbage)),
            ("+1\na", Err(RecordError::Garbage)),
            ("1 \na", Err(RecordError::Garbage)),
            ("{\"type\":1}", Err(RecordError::Garbage)),
            ("5\nabcdex", Err(RecordError::Garbage)),
            ("5\nabc", Err(RecordError::Truncated)),
            ("5", Err(RecordError::Truncated)),
            ("5\n", Err(RecordError::Truncated)),
        ] {
            assert_eq!(decode(&[stream.as_bytes()], 8).1, expected, "{stream:?}");
        }
    }

    #[test]
    fn a_failed_decoder_stays_failed_and_holds_nothing() {
        let mut decoder = Decoder::new(8);
        decoder.push(b"x");
        assert_eq!(decoder.next_record(), Err(RecordError::Garbage));
        decoder.push(b"1\na");
        assert_eq!((decoder.next_record(), decoder.buffer.len()), (Err(RecordError::Garbage), 0));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(0usize..400, 0..12),
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let (found, end) = decode(&chunks, 40);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(found, records.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_never_panics_and_its_chunking_changes_nothing(
            stream in proptest::collection::vec(prop_oneof![Just(b'1'), Just(b'3'), Just(b'\n'), any::<u8>()], 0..60),
            size in 1usize..10,
        ) {
            let whole = decode(&[&stream], 16);
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(decode(&chunks, 16), whole);
        }
    }
}
