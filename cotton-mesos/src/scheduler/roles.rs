//! What follows from a framework's info that is not what it was before: see [`Shared::check_roles`].
//!
//! A master takes over most of what a framework says of itself when it subscribes again: name, failover timeout, roles,
//! page, host and capabilities. Another principal gets an error. Another user is ignored without a word; but a master
//! that is told to update the framework says so in words, which are logged. Tasks are run as the new user all the same,
//! since each names it.
//!
//! Other roles are taken over, too, but what is reserved under the old ones is not offered any more. With volumes there, that
//! is data out of reach, and disks that nobody else can use; so that is refused before anything is changed.

use super::Shared;
use super::error::SchedulerError;
use super::state::Session;
use super::{marks, translate};
use crate::wire::common::Id;
use crate::wire::resource::Resource;
use crate::wire::scheduler::call::{Call, CallBody, UpdateFramework};
use cotton_core::{Endpoint, FrameworkId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Shared {
    /// Whether a framework that was known before may subscribe with the roles that it has now. Asked before the first
    /// subscription only. Where the operator API is closed to us, nobody can tell, and it may.
    pub(super) async fn check_roles(
        &self,
        master: &Endpoint,
        framework: Option<&FrameworkId>,
    ) -> Result<(), SchedulerError> {
        let Some(framework) = framework.filter(|_| !self.state().has_subscribed) else { return Ok(()) };
        let left = match self.roles_left(master, framework).await {
            Ok(roles) if roles.is_empty() => return Ok(()),
            Ok(roles) => roles,
            Err(error @ (SchedulerError::Denied { .. } | SchedulerError::Call(_))) => {
                tracing::warn!(%error, "cannot ask whether volumes are held under a role that the framework had before");
                return Ok(());
            }
            // Most likely it does not lead, or is not ready; then it does not take the subscription either.
            Err(error) => {
                tracing::debug!(%error, "could not ask for the roles that the framework had before");
                return Ok(());
            }
        };
        match self.held_under(master, framework, &left).await {
            Ok(None) => {
                let roles = &self.config.framework.roles;
                tracing::warn!(
                    ?left,
                    ?roles,
                    "the framework has other roles now; tasks that run go on under the old ones"
                );
                Ok(())
            }
            Ok(Some((role, agent))) => Err(SchedulerError::RoleInUse { framework: framework.clone(), role, agent }),
            Err(error) => {
                tracing::warn!(%error, ?left, "cannot ask whether volumes are held under roles that the framework had");
                Ok(())
            }
        }
    }

    /// Roles that the master knows of the framework, and that it does not have any more.
    async fn roles_left(&self, master: &Endpoint, framework: &FrameworkId) -> Result<BTreeSet<String>, SchedulerError> {
        let answer = self.client.operator(master, &json!({ "type": "GET_FRAMEWORKS" })).await?;
        let frameworks = answer["get_frameworks"]["frameworks"].as_array();
        let infos = frameworks.into_iter().flatten().map(|framework| &framework["framework_info"]);
        let ours = infos.filter(|info| info["id"]["value"] == framework.as_str());
        let roles = ours.filter_map(|info| info["roles"].as_array()).flatten().filter_map(Value::as_str);
        let has = |role: &str| self.config.framework.roles.iter().any(|known| known == role);
        Ok(roles.filter(|role| !has(role)).map(str::to_owned).collect())
    }

    /// One of these roles under which something is held for a volume of ours, and the host where.
    async fn held_under(
        &self,
        master: &Endpoint,
        framework: &FrameworkId,
        roles: &BTreeSet<String>,
    ) -> Result<Option<(String, String)>, SchedulerError> {
        let answer = self.client.operator(master, &json!({ "type": "GET_AGENTS" })).await?;
        let agents = answer["get_agents"]["agents"].as_array();
        for agent in agents.into_iter().flatten() {
            let resources = agent["total_resources"].as_array();
            let resources = resources.into_iter().flatten().filter_map(|json| Resource::deserialize(json).ok());
            let ours = resources.filter(|resource| marks::volume_of(framework, resource).is_some());
            let mut held = ours.filter_map(|resource| resource.reservations.last()?.role.clone());
            if let Some(role) = held.find(|role| roles.contains(role)) {
                let host = agent["agent_info"]["hostname"].as_str().unwrap_or_default();
                return Ok(Some((role, host.to_owned())));
            }
        }
        Ok(None)
    }

    /// Tells the master once more who we are: what it does not take over, it says in words then. Before anything else is
    /// said, since it also ends a `SUPPRESS`.
    pub(super) async fn update_framework(&self, session: &Session) {
        let framework_info = translate::framework_info(&self.config, Some(&session.framework));
        let body = CallBody::UpdateFramework { update_framework: UpdateFramework { framework_info } };
        let call = Call { framework_id: Some(Id::new(session.framework.as_str())), body };
        let _in_order = self.posting.lock().await;
        if let Err(refusal) = self.client.call(&session.master, &session.stream_id, &call).await {
            let (error, user) = (refusal.error(), &self.config.framework.user);
            tracing::warn!(%error, user, "Mesos keeps what it knew of the framework before; tasks are run as this user");
        }
    }
}
