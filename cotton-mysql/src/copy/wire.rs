//! What donor and recipient say to each other over TCP.
//!
//! ```text
//! donor      "cotton-copy 1\n", 32 random bytes
//! recipient  32 random bytes, proof as recipient
//! donor      proof as donor, or the end of the connection
//! donor      frames: length (4 bytes, big endian, at most 1 MiB), bytes
//! donor      length 0, then the outcome: length, text, proof of the outcome and of all bytes before it
//! ```
//!
//! A proof is an HMAC with SHA-256 under the replication password over its role, both random numbers, and what it vouches
//! for. So neither side can be pretended, nothing can be repeated, and a stream that ends early is never complete.

use crate::Error;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const GREETING: &[u8] = b"cotton-copy 1\n";
/// Largest frame.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Largest outcome.
const OUTCOME_BYTES_MAX: usize = 1024 * 1024;
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;

/// One authenticated connection, from either side.
pub(super) struct Wire<S> {
    stream: S,
    key: SecretString,
    nonces: [u8; 2 * NONCE_BYTES],
    bytes: Sha256,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// As donor. Fails when the other side does not know the password.
    pub(super) async fn accept(mut stream: S, key: SecretString) -> Result<Self, Error> {
        let own = nonce()?;
        let mut nonces = [0; 2 * NONCE_BYTES];
        nonces[..NONCE_BYTES].copy_from_slice(&own);
        send(&mut stream, &[GREETING, &own]).await?;
        receive(&mut stream, &mut nonces[NONCE_BYTES..]).await?;
        let mut this = Self { stream, key, nonces, bytes: Sha256::new() };
        this.check_proof(b"recipient", &[]).await?;
        let proof = this.mac(b"donor", &[])?.finalize().into_bytes();
        send(&mut this.stream, &[&proof]).await?;
        Ok(this)
    }

    /// As recipient. Fails when the other side is no donor or does not know the password.
    pub(super) async fn connect(mut stream: S, key: SecretString) -> Result<Self, Error> {
        let mut greeting = [0; GREETING.len()];
        receive(&mut stream, &mut greeting).await?;
        if greeting != GREETING {
            return Err(Error::CopyIncomplete("the other side is no donor of this version".to_owned()));
        }
        let mut nonces = [0; 2 * NONCE_BYTES];
        receive(&mut stream, &mut nonces[..NONCE_BYTES]).await?;
        nonces[NONCE_BYTES..].copy_from_slice(&nonce()?);
        let mut this = Self { stream, key, nonces, bytes: Sha256::new() };
        let proof = this.mac(b"recipient", &[])?.finalize().into_bytes();
        send(&mut this.stream, &[&this.nonces[NONCE_BYTES..], &proof]).await?;
        this.check_proof(b"donor", &[]).await?;
        Ok(this)
    }

    /// Sends a part of the data; empty parts are left out.
    pub(super) async fn send_data(&mut self, data: &[u8]) -> Result<(), Error> {
        for frame in data.chunks(FRAME_BYTES_MAX) {
            self.bytes.update(frame);
            send(&mut self.stream, &[&length(frame.len())?, frame]).await?;
        }
        Ok(())
    }

    /// Ends the data, well or badly.
    pub(super) async fn send_outcome(&mut self, outcome: &str) -> Result<(), Error> {
        let bytes: String = outcome.chars().take(OUTCOME_BYTES_MAX / 4).collect();
        let digest = self.bytes.clone().finalize();
        let proof = self.mac(b"outcome", &[&digest, bytes.as_bytes()])?.finalize().into_bytes();
        send(&mut self.stream, &[&length(0)?, &length(bytes.len())?, bytes.as_bytes(), &proof]).await
    }

    /// The next part of the data into `buffer`, or `None` at its end.
    pub(super) async fn receive_data(&mut self, buffer: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        let len = self.receive_length().await?;
        if len > FRAME_BYTES_MAX {
            return Err(Error::CopyIncomplete(format!("frame of {len} bytes")));
        }
        buffer.resize(len, 0);
        receive(&mut self.stream, buffer).await?;
        self.bytes.update(&buffer);
        Ok((len > 0).then_some(len))
    }

    /// What stands after the data.
    pub(super) async fn receive_outcome(&mut self) -> Result<String, Error> {
        let len = self.receive_length().await?;
        if len > OUTCOME_BYTES_MAX {
            return Err(Error::CopyIncomplete(format!("outcome of {len} bytes")));
        }
        let mut text = vec![0; len];
        receive(&mut self.stream, &mut text).await?;
        let digest = self.bytes.clone().finalize();
        self.check_proof(b"outcome", &[&digest, &text]).await?;
        String::from_utf8(text).map_err(|_| Error::CopyIncomplete("outcome is not text".to_owned()))
    }

    async fn receive_length(&mut self) -> Result<usize, Error> {
        let mut bytes = [0; 4];
        receive(&mut self.stream, &mut bytes).await?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| Error::CopyIncomplete("frame too long".to_owned()))
    }

    async fn check_proof(&mut self, role: &[u8], parts: &[&[u8]]) -> Result<(), Error> {
        let mut proof = [0; PROOF_BYTES];
        receive(&mut self.stream, &mut proof).await?;
        let denied = || Error::CopyIncomplete("the other side does not know the replication password".to_owned());
        self.mac(role, parts)?.verify_slice(&proof).map_err(|_| denied()) // in constant time
    }

    fn mac(&self, role: &[u8], parts: &[&[u8]]) -> Result<Hmac<Sha256>, Error> {
        let mac = Hmac::<Sha256>::new_from_slice(self.key.expose_secret().as_bytes());
        let mut mac = mac.map_err(|_| Error::Config("replication password cannot be a key".to_owned()))?;
        for part in [&[role, &self.nonces], parts].concat() {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        Ok(mac)
    }
}

fn length(len: usize) -> Result<[u8; 4], Error> {
    let len = u32::try_from(len).map_err(|_| Error::CopyIncomplete("frame too long".to_owned()))?;
    Ok(len.to_be_bytes())
}

fn nonce() -> Result<[u8; NONCE_BYTES], Error> {
    use std::io::Read;
    let mut nonce = [0; NONCE_BYTES];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut nonce));
    read.map_err(|e| Error::file("read", "/dev/urandom", e))?;
    Ok(nonce)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, parts: &[&[u8]]) -> Result<(), Error> {
    let lost = |source| Error::System { what: "send to the other side of a copy", source };
    for part in parts {
        stream.write_all(part).await.map_err(lost)?;
    }
    stream.flush().await.map_err(lost)
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8]) -> Result<(), Error> {
    match stream.read_exact(buffer).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::CopyIncomplete("the other side ended the connection".to_owned()))
        }
        Err(source) => Err(Error::System { what: "receive from the other side of a copy", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair(
        donor: &str,
        recipient: &str,
    ) -> (Result<Wire<tokio::io::DuplexStream>, Error>, Result<Wire<tokio::io::DuplexStream>, Error>) {
        let (a, b) = tokio::io::duplex(64);
        tokio::join!(Wire::accept(a, donor.into()), Wire::connect(b, recipient.into()))
    }

    #[tokio::test]
    async fn carries_data_and_outcome() {
        let (donor, recipient) = pair("same", "same").await;
        let (mut donor, mut recipient) = (donor.expect("knows it"), recipient.expect("knows it"));
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let copy = data.clone();
        let send = async move {
            donor.send_data(&copy).await.expect("sent");
            donor.send_outcome("fine").await.expect("sent");
        };
        let receive = async move {
            let (mut all, mut buffer) = (Vec::new(), Vec::new());
            while recipient.receive_data(&mut buffer).await.expect("received").is_some() {
                all.extend_from_slice(&buffer);
            }
            (all, recipient.receive_outcome().await.expect("outcome"))
        };
        let ((), (all, outcome)) = tokio::join!(send, receive);
        assert!(all == data && outcome == "fine");
    }

    #[tokio::test]
    async fn refuses_who_does_not_know_the_password() {
        let (donor, recipient) = pair("right", "wrong").await;
        assert!(matches!(donor.err().expect("refused"), Error::CopyIncomplete(_)));
        assert!(recipient.is_err());
    }

    #[tokio::test]
    async fn an_early_end_is_not_complete() {
        let (donor, recipient) = pair("same", "same").await;
        let (mut donor, mut recipient) = (donor.expect("knows it"), recipient.expect("knows it"));
        donor.send_data(b"abc").await.expect("sent");
        drop(donor);
        let mut buffer = Vec::new();
        assert_eq!(recipient.receive_data(&mut buffer).await.expect("first"), Some(3));
        assert!(matches!(recipient.receive_data(&mut buffer).await, Err(Error::CopyIncomplete(_))));
    }

    #[tokio::test]
    async fn changed_bytes_are_noticed() {
        let (a, mut middle_a) = tokio::io::duplex(1 << 16);
        let (mut middle_b, b) = tokio::io::duplex(1 << 16);
        let man_in_the_middle = async {
            let (mut from_a, mut to_a) = tokio::io::split(&mut middle_a);
            let (mut from_b, mut to_b) = tokio::io::split(&mut middle_b);
            let change = async {
                let mut byte = [0];
                while from_a.read_exact(&mut byte).await.is_ok() {
                    byte[0] = if byte[0] == b'#' { b'!' } else { byte[0] };
                    if to_b.write_all(&byte).await.is_err() {
                        break; // the recipient noticed and has gone
                    }
                }
                let _gone = to_b.shutdown().await;
            };
            let _gone = tokio::join!(change, tokio::io::copy(&mut from_b, &mut to_a));
        };
        let donor = async {
            let mut donor = Wire::accept(a, "same".into()).await?;
            donor.send_data(&[b'#'; 10]).await?;
            donor.send_outcome("fine").await
        };
        let recipient = async {
            // random numbers may hold a '#' too; then it fails even earlier
            let mut recipient = Wire::connect(b, "same".into()).await?;
            let mut buffer = Vec::new();
            while recipient.receive_data(&mut buffer).await?.is_some() {}
            recipient.receive_outcome().await
        };
        let ((), _, outcome) = tokio::join!(man_in_the_middle, donor, recipient);
        assert!(outcome.is_err());
    }
}
