//! The names by which the API may be called. A web site can let its own name point to this machine (DNS rebinding), and a
//! browser then takes the API for a part of that site; its requests name the site in `Host`, though, and are refused.
//!
//! An address in `Host` is no such name, so addresses are admitted: any, or only loopback ones if we listen on one.

use super::error::{Code, Problem};
use super::{refusal, request};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Who we are to those who ask; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    loopback_only: bool,
    names: BTreeSet<String>,
}

impl Hosts {
    /// For an API on that address, which people also reach by the names in `given`.
    pub fn new(listening: IpAddr, given: &[String]) -> Self {
        let loopback_only = listening.is_loopback();
        let mut names: BTreeSet<_> = given.iter().map(|name| plain(name)).collect();
        names.insert("localhost".to_owned());
        if !loopback_only {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default(); // the flag is for what is not found here
            let (hosts, resolver) = (read("/etc/hosts"), read("/etc/resolv.conf"));
            names.extend(names_of(&read("/proc/sys/kernel/hostname"), &hosts, &resolver));
        }
        Self { loopback_only, names }
    }

    /// Whether this is one of our names or addresses, with or without a port.
    fn admits(&self, host: &str) -> bool {
        let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let bare = bare.map_or(host, |(bare, _)| bare);
        let address = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
        match address.parse::<IpAddr>() {
            Ok(address) => !self.loopback_only || address.is_loopback(),
            Err(_) => self.names.contains(&plain(bare)),
        }
    }

    fn advice(&self) -> &'static str {
        if self.loopback_only {
            "it is for this machine alone: ask 'localhost' or 127.0.0.1"
        } else {
            "ask its address or the name of its machine, or let it be started with this name in --hostname"
        }
    }
}

/// Lets a router answer only those who call it by one of these names.
pub(super) fn only(router: Router, hosts: Arc<Hosts>) -> Router {
    router.layer(middleware::from_fn_with_state(hosts, check))
}

async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let named = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let named = named.chain(request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    // without a name it is an old program, not a browser
    let foreign = named.map(String::from_utf8_lossy).find(|host| !host.is_empty() && !hosts.admits(host));
    let Some(foreign) = foreign else { return next.run(request).await };
    let detail = format!("this server is not called '{}': {}", request::short(&foreign), hosts.advice());
    refusal(request.uri(), Problem::new(Code::ForeignHost, detail))
}

/// As names are compared.
fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

/// The machine's names: its own, what `/etc/hosts` says beside it, and itself in the domains that are searched.
fn names_of(hostname: &str, hosts: &str, resolver: &str) -> BTreeSet<String> {
    let hostname = plain(hostname);
    if hostname.is_empty() {
        return BTreeSet::new();
    }
    let short = hostname.split('.').next().unwrap_or_default();
    let without_comments = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        lines.map(|line| line.split_whitespace().map(plain).collect()).collect()
    };
    let beside = without_comments(hosts).into_iter().filter(|line| line.iter().skip(1).any(|name| *name == hostname));
    let beside = beside.flat_map(|line| line.into_iter().skip(1));
    let searched = without_comments(resolver).into_iter();
    let searched = searched.filter(|line| line.first().is_some_and(|word| word == "search" || word == "domain"));
    let searched = searched.flat_map(|line| line.into_iter().skip(1)).filter(|domain| !domain.is_empty());
    let searched = searched.map(|domain| format!("{short}.{domain}"));
    [hostname.clone(), short.to_owned()].into_iter().chain(beside).chain(searched).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_this_machine_has_loopback_names_only() {
        let hosts = Hosts::new([127, 0, 0, 1].into(), &["Db.Example.".to_owned()]);
        for own in
            ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "127.0.0.2", "[::1]:8765", "db.example", "db.example.:9"]
        {
            assert!(hosts.admits(own), "{own}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example:8765", "10.0.0.1", "[fe80::1]:1", "127.0.0.1.evil", ":", "::1x"]
        {
            assert!(!hosts.admits(foreign), "{foreign}");
        }
    }

    #[test]
    fn others_are_called_by_any_address_and_the_names_of_the_machine() {
        let hosts = Hosts { loopback_only: false, names: names_of("h1\n", "", "search Corp.example\n") };
        for own in ["h1:8080", "H1.corp.example", "10.1.2.3:8080", "[2001:db8::1]:8080"] {
            assert!(hosts.admits(own), "{own}");
        }
        for foreign in ["h1.evil.example", "evil.example:8080", "10.1.2.3.evil.example"] {
            assert!(!hosts.admits(foreign), "{foreign}");
        }
        assert!(Hosts::new([0, 0, 0, 0].into(), &["api.example".to_owned()]).admits("api.example:80"));
    }

    #[test]
    fn names_of_a_machine() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\th1.corp.example h1 # h1.comment\n10.0.0.9 other h2\n";
        let names = names_of("h1", hosts, "# search no.example\nnameserver 10.0.0.1\nsearch a.example b.example\n");
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["h1", "h1.a.example", "h1.b.example", "h1.corp.example"]);
        assert!(names_of("", hosts, "search a.example").is_empty());
    }
}
