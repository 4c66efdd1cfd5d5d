//! The page at `/`: what there is, for people. No scripts; it reloads itself.

use super::Api;
use super::error::Problem;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cotton_core::{ClusterName, ClusterView, CommandError, MemberView};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

const CONNECTING: &str = "<h1>Mysos scheduler is still connecting...</h1>";
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
const HEAD: &str = include_str!("page_head.html");

/// `GET /`
pub(super) async fn index(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    if !api.was_connected().await? {
        return Ok(html(CONNECTING.to_owned()));
    }
    Ok(html(render(&api.control.list().await?, &api.control.damaged().await?)))
}

/// Text that is safe between tags.
pub(super) fn escape_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text that is safe everywhere in HTML.
fn escape(text: &str) -> String {
    escape_text(text).replace('"', "&quot;").replace('\'', "&#39;")
}

fn html(text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=UTF-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

fn render(clusters: &[ClusterView], damaged: &BTreeSet<ClusterName>) -> String {
    let mut page = HEAD.to_owned();
    let healthy = clusters.iter().filter(|cluster| cluster.reasons.is_empty()).count();
    let summary = match clusters.len() {
        0 => "No cluster yet. Make one: <code>cotton create NAME --size 3 --user USER</code>".to_owned(),
        1 => format!("1 cluster, {healthy} without complaints"),
        count => format!("{count} clusters, {healthy} without complaints"),
    };
    let _ = writeln!(page, "<p class=summary>{summary}</p>"); // a String takes everything
    for name in damaged {
        let text = escape(&CommandError::Damaged(name.clone()).to_string());
        let _ = writeln!(
            page,
            "<section><h2>{name} <span class=\"status waiting\">damaged</span></h2><p>{text}</p></section>"
        );
    }
    for cluster in clusters {
        section(&mut page, cluster);
    }
    page.push_str("</main></body></html>\n");
    page
}

fn section(page: &mut String, cluster: &ClusterView) {
    let status = cluster.status.name();
    let endpoint = cluster.endpoint.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let _ = writeln!(
        page,
        "<section id=\"{name}\">\n<h2>{name} <span class=\"status {status}\">{words}</span></h2>\n\
         <dl><dt>Name</dt><dd>{name}</dd><dt>User</dt><dd>{user}</dd><dt>Num nodes</dt><dd>{size}</dd>\
         <dt>Write endpoint</dt><dd><code>{endpoint}</code></dd><dt>Durability</dt><dd>{durability}</dd>\
         <dt>Each member</dt><dd>{resources}</dd><dt>Epoch</dt><dd>{epoch}</dd></dl>",
        name = escape(cluster.name.as_str()),
        words = status.replace('_', " "),
        user = escape(&cluster.user),
        size = cluster.size,
        endpoint = escape(&endpoint),
        durability = cluster.durability,
        resources = cluster.resources,
        epoch = cluster.epoch,
    );
    if !cluster.reasons.is_empty() {
        page.push_str("<ul class=reasons>\n");
        for reason in &cluster.reasons {
            let _ = writeln!(page, "<li>{} <small>{}</small></li>", escape(&reason.text), escape(reason.code.name()));
        }
        page.push_str("</ul>\n");
    }
    page.push_str(
        "<div class=wide><table><thead><tr><th>Member</th><th>Role</th><th>Health</th><th>Endpoint</th><th>Agent</th>\
         <th>Lag</th><th>Server</th><th>Position</th></tr></thead><tbody>\n",
    );
    for member in &cluster.members {
        row(page, member);
    }
    page.push_str("</tbody></table></div>\n");
    if let Some(timeline) = &cluster.last_failover {
        let _ = writeln!(page, "<p class=failover>Latest: {}</p>", escape(&timeline.to_string()));
    }
    if let Some(switchover) = &cluster.switchover {
        let _ = writeln!(page, "<p class=failover>Latest switchover: {}</p>", escape(&switchover.to_string()));
    }
    page.push_str("</section>\n");
}

fn row(page: &mut String, member: &MemberView) {
    let errant = member.errant.as_ref().map(|gtids| format!("the primary lacks {gtids}"));
    let (class, health) = match (member.trouble.as_ref().or(errant.as_ref()), member.leaving, member.healthy) {
        (Some(trouble), _, _) => ("bad", trouble.as_str()),
        (None, true, _) => ("leaving", "leaving"),
        (None, false, true) => ("good", "healthy"),
        (None, false, false) => ("bad", "not healthy"),
    };
    let lag = member.lag_s.map_or_else(|| "–".to_owned(), |lag| format!("{lag} s"));
    let _ = writeln!(
        page,
        "<tr><td>{id}</td><td class=\"role {role}\">{role}</td><td class={class}>{health}</td>\
         <td><code>{endpoint}</code></td><td>{agent}</td><td>{lag}</td><td>{version}</td>\
         <td class=gtids><code>{gtids}</code></td></tr>",
        id = member.id,
        role = escape(member.role),
        health = escape(health),
        endpoint = escape(&member.endpoint.to_string()),
        agent = escape(member.agent.as_str()),
        version = escape(&member.server_version),
        gtids = escape(&member.gtids),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        assert_eq!(escape("<a href='x' title=\"&\">"), "&lt;a href=&#39;x&#39; title=&quot;&amp;&quot;&gt;");
    }
}
