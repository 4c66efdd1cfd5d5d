//! The pure logic of cotton: MySQL clusters that create, fail over, scale and heal themselves, without I/O.
//!
//! # What is here
//! - [`cluster`]: the machine of one MySQL cluster. [`election`] says who becomes primary, [`scaling`] who leaves.
//! - [`fleet`]: all clusters of one framework: offers, task ownership, reconciliation. [`placement`] says who goes where.
//! - `executor`: the machine beside one server.
//! - [`gtid`]: positions in replication, of MySQL and MariaDB, compared without a server.
//! - [`protocol`]: what schedulers and executors say to each other.
//! - [`ports`]: what all this needs from the world, as small traits.
//! - `driver` (feature): the async loops that persist, run effects and feed results back.
//! - `testkit` (feature): fakes of the ports, contract suites for them, and the deterministic simulator.
//!
//! Without features there is no async runtime, no clock, no I/O, no randomness and no unordered map in it.
//!
//! # How a machine is driven
//! Facts go in, wishes come out, and no wish leaves before the state that it follows from is durable:
//!
//! ```
//! use cotton_core::cluster::{Cluster, Effect, Input, Placed, Timing};
//! use cotton_core::{ClusterSpec, Durability, Endpoint, Limits, MemberId, Millis, Preference, Resources, Sealed, Secrets};
//!
//! let sealed = || Sealed::new("opened by the executor only");
//! let spec = ClusterSpec {
//!     name: "orders".parse()?,
//!     size: 1,
//!     resources: Resources::DEFAULT,
//!     user: "app".to_owned(),
//!     secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
//!     durability: Durability::for_size(1),
//!     preference: Preference::Consistency,
//!     backup_id: None,
//! };
//! let now = Millis(0);
//! let mut cluster = Cluster::create(Timing::default(), &Limits::default(), spec, 0, MemberId(0), 1, now)?;
//!
//! // 1. It wants a member; whoever places it says where.
//! assert_eq!(cluster.wanted().map(|wanted| wanted.count), Some(1));
//! let place = Placed { offer: "o1".into(), agent: "a1".into(), endpoint: Endpoint::new("host", 3306), zone: None };
//! let member = cluster.place(now, place);
//!
//! // 2. Nothing comes out before the state is durable...
//! assert_eq!(cluster.poll_effect(), None);
//! let (revision, state) = cluster.poll_checkpoint().expect("something changed");
//! let _bytes = serde_json::to_vec(state)?; // save these
//! cluster.handle_persisted(now, revision);
//!
//! // 3. ... and then the launch does.
//! let launched = std::iter::from_fn(|| cluster.poll_effect()).any(|effect| matches!(effect, Effect::Launch { .. }));
//! assert!(launched);
//!
//! // 4. Facts go in as they come; then again from 2.
//! let running = cotton_core::ports::mesos::TaskState::Running;
//! cluster.handle(now, Input::Task { member, state: running, message: String::new() });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The driver does these steps for many clusters at once; an embedder gives it ports of his own, see the examples.

pub mod account;
mod backoff;
pub mod cluster;
mod codes;
#[cfg(feature = "driver")]
pub mod driver;
pub mod election;
pub mod endpoint;
pub mod error;
pub mod executor;
pub mod fleet;
pub mod gtid;
pub mod id;
pub mod placement;
pub mod ports;
pub mod protocol;
pub mod resources;
pub mod scaling;
pub mod spec;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
mod words;

pub use cluster::event::{Event, EventKind, Timeline};
pub use cluster::view::{
    ApplyingView, ClusterStatus, ClusterView, MemberView, PerSecond, Reason, ReasonCode, RefusedOffer, RetryView,
};
pub use endpoint::Endpoint;
pub use error::{ErrorKind, ErrorStatus, PortError};
pub use fleet::CommandError;
pub use gtid::{GtidError, GtidOrder, GtidSet, MariaDbGtids, MySqlGtids};
pub use id::{AgentId, ClusterName, Epoch, FrameworkId, IdError, MemberId, OfferId, Revision, TaskId, VolumeId};
pub use placement::{PlacementPolicy, Plan, Refusal, Spread, Unplaced, Want};
pub use resources::{Ports, ResourceKind, Resources};
pub use spec::{ClusterSpec, Durability, Limits, Preference, Sealed, Secrets, SpecError};
pub use time::Millis;
