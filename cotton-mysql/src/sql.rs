//! Connections to servers: one statement at a time, every one with a time limit, text in and text out.

use crate::Error;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value};
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// Largest answer that we read; GTID sets of old clusters are the longest.
const PACKET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One row, by column name.
#[derive(Debug)]
pub(crate) struct Record(Row);

impl Record {
    /// The text of a column; `None` when it is NULL, empty or not there.
    pub(crate) fn text(&self, column: &str) -> Option<String> {
        let index = self.0.columns_ref().iter().position(|c| c.name_str().eq_ignore_ascii_case(column))?;
        self.at(index)
    }

    /// The text of the `index`-th column; `None` when it is NULL, empty or not there.
    pub(crate) fn at(&self, index: usize) -> Option<String> {
        let text = match self.0.as_ref(index)? {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Int(number) => number.to_string(),
            Value::UInt(number) => number.to_string(),
            Value::NULL | Value::Float(_) | Value::Double(_) | Value::Date(..) | Value::Time(..) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// A number.
    pub(crate) fn number(&self, column: &str) -> Option<u64> {
        self.text(column)?.parse().ok()
    }

    /// `1`, `ON` or `YES`.
    pub(crate) fn is_on(&self, column: &str) -> bool {
        self.text(column).is_some_and(|text| matches!(text.to_ascii_uppercase().as_str(), "1" | "ON" | "YES"))
    }
}

/// A server's address for one account.
#[derive(Clone, Debug)]
pub(crate) struct Address(Opts);

impl Address {
    pub(crate) fn socket(path: &Path, user: &str, password: &SecretString) -> Self {
        let builder = Self::builder(user, password).socket(Some(path.display().to_string()));
        Self(builder.into())
    }

    pub(crate) fn tcp(host: &str, port: u16, user: &str, password: &SecretString) -> Self {
        Self(Self::builder(user, password).ip_or_hostname(host).tcp_port(port).into())
    }

    fn builder(user: &str, password: &SecretString) -> OptsBuilder {
        // without the settings here the driver would ask for them at each connection, and change to a unix socket
        OptsBuilder::default()
            .user(Some(user))
            .pass(Some(password.expose_secret()))
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(3600 * 24 * 365))
            .setup(vec!["SET SESSION wait_timeout = 31536000"])
    }
}

/// A connection that is opened when needed, kept open, and dropped as soon as it is in doubt.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    slot: Mutex<Option<Conn>>,
    /// Whether a connection that is lost is made anew.
    again: bool,
}

impl Link {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, slot: Mutex::new(None), again: true }
    }

    /// The same with the connection that it has, and never another one.
    pub(crate) fn once(self) -> Self {
        Self { again: false, ..self }
    }

    /// Connects if that has not been done.
    pub(crate) async fn warm(&self, limit: Duration) -> Result<(), Error> {
        self.query("connect", "DO 0", limit).await.map(drop)
    }

    /// All rows of one statement. `what` says what it is for and is shown in errors, which the statement is not.
    ///
    /// A broken connection that was open before is replaced once: our statements may be repeated.
    pub(crate) async fn query(&self, what: &'static str, sql: &str, limit: Duration) -> Result<Vec<Record>, Error> {
        let deadline = Instant::now() + limit;
        let late = || Error::Timeout { what, after: limit };
        let mut slot = timeout_at(deadline, self.slot.lock()).await.map_err(|_| late())?;
        loop {
            let open = slot.take(); // not put back unless it is sound, also when we are cancelled
            let was_open = open.is_some();
            let attempt = async {
                let mut conn = match open {
                    Some(conn) => conn,
                    None if !self.again => {
                        let gone = std::io::Error::from(std::io::ErrorKind::NotConnected);
                        return Err((mysql_async::Error::Io(gone.into()), None));
                    }
                    None => Conn::new(self.address.0.clone()).await.map_err(|e| (e, None))?,
                };
                match conn.query::<Row, _>(sql).await {
                    Ok(rows) => Ok((rows, conn)),
                    Err(error) => Err((error, Some(conn))),
                }
            };
            match timeout_at(deadline, attempt).await {
                Err(_) => return Err(late()),
                Ok(Ok((rows, conn))) => {
                    *slot = Some(conn);
                    return Ok(rows.into_iter().map(Record).collect());
                }
                Ok(Err((source, conn))) => {
                    let error = Error::Sql { what, source };
                    if error.is_connection() {
                        if was_open && self.again {
                            continue;
                        }
                    } else {
                        *slot = conn;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The first row.
    pub(crate) async fn row(&self, what: &'static str, sql: &str, limit: Duration) -> Result<Record, Error> {
        let first = self.query(what, sql, limit).await?.into_iter().next();
        first.ok_or_else(|| Error::answer(what, "no row"))
    }

    /// A statement without rows.
    pub(crate) async fn run(&self, what: &'static str, sql: &str, limit: Duration) -> Result<(), Error> {
        self.query(what, sql, limit).await.map(drop)
    }
}
