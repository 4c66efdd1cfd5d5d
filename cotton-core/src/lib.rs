//! The pure logic of cotton.

pub mod cluster;
#[cfg(feature = "driver")]
pub mod driver;
pub mod election;
pub mod endpoint;
pub mod error;
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

pub use cluster::event::{Event, EventKind, Timeline};
pub use cluster::view::{ClusterStatus, ClusterView, MemberView, Reason};
pub use endpoint::Endpoint;
pub use error::{ErrorKind, ErrorStatus, PortError};
pub use fleet::CommandError;
pub use gtid::{GtidError, GtidOrder, GtidSet, MariaDbGtids, MySqlGtids};
pub use id::{AgentId, ClusterName, Epoch, FrameworkId, IdError, MemberId, OfferId, Revision, TaskId};
pub use placement::{PlacementPolicy, Plan, Refusal, Spread, Unplaced, Want};
pub use resources::{Ports, ResourceKind, Resources};
pub use spec::{ClusterSpec, Durability, Limits, Preference, Sealed, Secrets, SpecError};
pub use time::Millis;
