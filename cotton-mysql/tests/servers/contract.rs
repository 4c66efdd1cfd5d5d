//! The suite that fakes pass too.

use crate::support::{Member, Servers, USER, USER_PASSWORD, signal};
use cotton_core::Endpoint;
use cotton_core::ports::mysql::MySql;
use cotton_core::testkit::contract::mysql::{Outside, Subject, mysql};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

on_each_server!(contract);

struct Real {
    servers: Servers,
    members: Mutex<Vec<Member>>,
}

impl Outside for Real {
    async fn open(&self) -> Subject {
        let member = Member::new(self.servers.programs().expect("looked for before"), |_| {});
        let server: Arc<dyn MySql> = Arc::clone(&member.instance) as _;
        let subject = Subject { server, endpoint: member.endpoint.clone() };
        self.members.lock().expect("no panic before").push(member);
        subject
    }

    async fn write(&self, endpoint: &Endpoint) -> bool {
        let opts = OptsBuilder::default()
            .ip_or_hostname(endpoint.host.clone())
            .tcp_port(endpoint.port)
            .user(Some(USER))
            .pass(Some(USER_PASSWORD))
            .prefer_socket(false);
        let Ok(mut conn) = Conn::new(opts).await else { return false };
        let create = "CREATE TABLE IF NOT EXISTS app.t (id BIGINT PRIMARY KEY AUTO_INCREMENT)";
        for sql in ["CREATE DATABASE IF NOT EXISTS app", create, "INSERT INTO app.t VALUES ()"] {
            if conn.query_drop(sql).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn crash(&self, endpoint: &Endpoint) {
        let members = self.members.lock().expect("no panic before");
        let member = members.iter().find(|member| member.endpoint == *endpoint).expect("it was opened");
        signal(member.instance.pid().expect("it runs"), Signal::KILL);
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    fn can_copy(&self) -> bool {
        self.servers != Servers::MySql56
    }
}

async fn contract(servers: Servers) {
    if servers.programs().is_some() {
        mysql(&Real { servers, members: Mutex::default() }).await;
    }
}
