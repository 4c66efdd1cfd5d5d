//! Clusters in words and tables, for people.

use super::answers::{Applying, Cluster, Event, Failover, Member, Resources, Retry, Switchover};
use super::table::table;

const SILENCE_SHOWN_MS: u64 = 10_000; // reports come every few seconds

/// All clusters, one a line.
pub(super) fn list(clusters: &[Cluster], damaged: &[String]) -> String {
    if clusters.is_empty() && damaged.is_empty() {
        return "no clusters; make one with 'cotton create NAME --size 3 --wait'".to_owned();
    }
    let mut rows: Vec<_> = clusters.iter().map(list_row).collect();
    let reason = "its stored state was damaged and kept aside: restore or remove it, then restart";
    rows.extend(damaged.iter().map(|name| [name, "damaged", "-", "-", "-", "-", reason].map(str::to_owned).to_vec()));
    table(&["NAME", "STATUS", "MEMBERS", "WRITE ENDPOINT", "DURABILITY", "USER", "REASON"], &rows)
}

/// One cluster with its members.
pub(super) fn show(cluster: &Cluster) -> String {
    let endpoint = cluster.endpoint.as_ref().map_or_else(|| "none now".to_owned(), ToString::to_string);
    let mut lines = vec![format!("{}: {}", cluster.name, cluster.status.replace('_', " "))];
    lines.extend(cluster.reasons.iter().map(|reason| format!("  - {}", reason.text)));
    lines.push(format!("write endpoint  {endpoint}"));
    lines.push(format!("user            {}", cluster.user));
    lines.push(format!("members         {} of {} healthy", cluster.healthy_members(), cluster.size));
    lines.push(format!("each            {}", resources(&cluster.resources)));
    lines.push(format!("durability      {}", cluster.durability));
    lines.push(format!("epoch           {}", cluster.epoch));
    let known = cluster.members.iter().filter_map(|member| Some((member.id, member.rule.as_deref()?)));
    let rules: Vec<String> =
        known.filter(|(_, rule)| *rule != "neutral").map(|(id, rule)| format!("member {id}: {rule}")).collect();
    if !rules.is_empty() {
        lines.push(format!("promotion rules {}", rules.join(", ")));
    }
    if let Some(Failover { from, to, promoted_ms, replica_ms }) = &cluster.last_failover {
        let from = from.map_or_else(String::new, |from| format!("from member {from} "));
        let replica = replica_ms.map_or_else(String::new, |ms| format!(", first replica after {ms} ms"));
        lines.push(format!("last failover   {from}to member {to}, writable after {promoted_ms} ms{replica}"));
    }
    if let Some(Switchover { from, to, ms, reason, .. }) = &cluster.switchover {
        let end = match (ms, reason) {
            (Some(ms), _) => format!(", within {ms} ms"),
            (None, Some(reason)) => format!(", failed: {reason}"),
            (None, None) => ", under way".to_owned(),
        };
        lines.push(format!("last switchover from member {from} to member {to}{end}"));
    }
    let rows: Vec<_> = cluster.members.iter().map(member_row).collect();
    lines.push(String::new());
    lines.push(table(
        &["MEMBER", "ROLE", "HEALTH", "LAG", "TO APPLY", "ENDPOINT", "AGENT", "SERVER", "POSITION"],
        &rows,
    ));
    if !cluster.retries.is_empty() {
        let rows: Vec<_> = cluster.retries.iter().map(retry_row).collect();
        lines.push(String::new());
        lines.push(table(&["TRIED AGAIN", "AGENT", "FAILED", "NEXT TRY", "WHY"], &rows));
    }
    if !cluster.refusals.is_empty() {
        let rows: Vec<_> = cluster.refusals.iter().map(|offer| vec![offer.host.clone(), offer.text.clone()]).collect();
        lines.push(String::new());
        lines.push(table(&["OFFER NOT USED", "WHY"], &rows));
    }
    lines.join("\n")
}

/// One event.
pub(super) fn event(event: &Event) -> String {
    format!("{}  {}  epoch {}  {}", utc(event.unix_ms), event.cluster, event.epoch, event.text)
}

/// `1970-01-01 00:00:00.000Z` and so on.
fn utc(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // days since 0000-03-01, so that a leap day is the last of its year
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn list_row(cluster: &Cluster) -> Vec<String> {
    vec![
        cluster.name.clone(),
        cluster.status.clone(),
        format!("{}/{}", cluster.healthy_members(), cluster.size),
        cluster.endpoint.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        cluster.durability.clone(),
        cluster.user.clone(),
        cluster.reasons.first().map_or_else(String::new, |reason| reason.text.clone()),
    ]
}

fn member_row(member: &Member) -> Vec<String> {
    let silence = member.silent_ms.filter(|&ms| ms >= SILENCE_SHOWN_MS);
    let errant = member.errant.as_ref().map(|gtids| format!("the primary lacks {gtids}"));
    let health = match (member.trouble.as_ref().or(errant.as_ref()), member.leaving, member.healthy, silence) {
        (Some(trouble), ..) => trouble.clone(),
        (None, true, ..) => "leaving".to_owned(),
        (None, false, true, _) => "healthy".to_owned(),
        (None, false, false, Some(ms)) => format!("silent for {} s", ms / 1000),
        (None, false, false, None) => "not healthy".to_owned(),
    };
    vec![
        member.id.to_string(),
        member.role.clone(),
        health,
        member.lag_s.map_or_else(|| "-".to_owned(), |lag| format!("{lag} s")),
        member.applying.as_ref().map_or_else(|| "-".to_owned(), applying),
        member.endpoint.to_string(),
        member.agent.clone(),
        if member.server_version.is_empty() { "-".to_owned() } else { member.server_version.clone() },
        member.gtids.clone(),
    ]
}

/// `40001, 643.2/s, 62 s`: how many, how many in a second, and when that is over, as far as it is known.
fn applying(applying: &Applying) -> String {
    let rate = applying.per_second.map_or_else(String::new, |rate| format!(", {rate:.1}/s"));
    let rest = applying.rest_s.map_or_else(String::new, |seconds| format!(", {seconds} s"));
    format!("{}{rate}{rest}", applying.left)
}

fn retry_row(retry: &Retry) -> Vec<String> {
    let times = if retry.failures == 1 { "once".to_owned() } else { format!("{} times", retry.failures) };
    vec![
        retry.member.map_or_else(|| retry.what.clone(), |member| format!("{} of member {member}", retry.what)),
        retry.agent.clone().unwrap_or_else(|| "-".to_owned()),
        times,
        if retry.in_ms == 0 { "now".to_owned() } else { format!("in {} s", retry.in_ms.div_ceil(1_000)) },
        retry.reason.clone(),
    ]
}

/// An amount of data.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
            format!("{whole}.{} {unit}", (rest * 10) >> shift)
        }
        None => format!("{bytes} bytes"),
    }
}

fn resources(resources: &Resources) -> String {
    let (whole, milli) = (resources.cpus_milli / 1000, resources.cpus_milli % 1000);
    let cpus = if milli == 0 { whole.to_string() } else { format!("{whole}.{milli:03}") };
    let (mem, disk) = (resources.mem_bytes >> 20, resources.disk_bytes >> 20);
    format!("{cpus} cpus, {mem} MiB memory, {disk} MiB disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes() {
        assert_eq!(
            [0, 999, 1_024, 1_536, 1 << 30].map(size),
            ["0 bytes", "999 bytes", "1.0 KiB", "1.5 KiB", "1.0 GiB"]
        );
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00.000Z"),
            (951_782_399_999, "2000-02-28 23:59:59.999Z"),
            (951_782_400_000, "2000-02-29 00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29 00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14 22:13:20.123Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }

    fn cluster() -> Cluster {
        let member = |id: u64, role: &str, healthy: bool, trouble: Option<&str>| {
            json!({
                "id": id, "agent": format!("agent-{id}"), "endpoint": {"host": "127.0.0.1", "port": 31000 + id},
                "role": role, "healthy": healthy, "leaving": false, "rule": if id == 2 { "never" } else { "neutral" }, "gtids": "0-1-42", "lag_s": (id > 0).then_some(0),
                "applying": (id == 1).then(|| json!({"left": 40001, "per_second": 643.25, "rest_s": 62})),
                "silent_ms": if healthy { 15 } else { 12_345 }, "server_version": "10.11.14-MariaDB", "trouble": trouble,
            })
        };
        serde_json::from_value(json!({
            "name": "demo", "user": "jane", "status": "failing_over", "size": 3, "durability": "semi_sync", "epoch": 2,
            "retries": [{"what": "copy", "member": 2, "agent": "agent-2", "failures": 3, "in_ms": 3_500, "reason": "no space"},
                        {"what": "agent", "agent": "agent-3", "failures": 1, "in_ms": 0, "reason": "no server"}],
            "refusals": [{"agent": "a", "host": "h3", "code": "no_port", "text": "no port left"}],
            "reasons": [{"code": "x", "text": "the primary is lost"}], "preference": "consistency", "primary": null,
            "resources": {"cpus_milli": 1500, "mem_bytes": 536_870_912, "disk_bytes": 2_147_483_648_u64},
            "endpoint": null, "last_failover": {"epoch": 1, "from": 2, "to": 0, "promoted_ms": 40, "replica_ms": 60},
            "switchover": {"from": 0, "to": 1, "state": "failed", "ms": null, "reason": "member 1 is 9 s behind"},
            "members": [member(0, "primary", true, None), member(1, "replica", false, None),
                        member(2, "down", false, Some("signal 9"))],
        }))
        .expect("as the server answers")
    }

    #[test]
    fn clusters_for_people() {
        assert_eq!(
            list(&[cluster()], &["torn".to_owned()]),
            "NAME  STATUS        MEMBERS  WRITE ENDPOINT  DURABILITY  USER  REASON\n\
             demo  failing_over  1/3      -               semi_sync   jane  the primary is lost\n\
             torn  damaged       -        -               -           -     its stored state was damaged and kept \
             aside: restore or remove it, then restart"
        );
        assert_eq!(
            show(&cluster()),
            "demo: failing over\n  - the primary is lost\n\
             write endpoint  none now\nuser            jane\nmembers         1 of 3 healthy\n\
             each            1.500 cpus, 512 MiB memory, 2048 MiB disk\ndurability      semi_sync\nepoch           2\n\
             promotion rules member 2: never\n\
             last failover   from member 2 to member 0, writable after 40 ms, first replica after 60 ms\n\
             last switchover from member 0 to member 1, failed: member 1 is 9 s behind\n\n\
             MEMBER  ROLE     HEALTH           LAG  TO APPLY              ENDPOINT         AGENT    SERVER            \
             POSITION\n\
             0       primary  healthy          -    -                     127.0.0.1:31000  agent-0  10.11.14-MariaDB  \
             0-1-42\n\
             1       replica  silent for 12 s  0 s  40001, 643.2/s, 62 s  127.0.0.1:31001  agent-1  10.11.14-MariaDB  \
             0-1-42\n\
             2       down     signal 9         0 s  -                     127.0.0.1:31002  agent-2  10.11.14-MariaDB  \
             0-1-42\n\n\
             TRIED AGAIN       AGENT    FAILED   NEXT TRY  WHY\n\
             copy of member 2  agent-2  3 times  in 4 s    no space\n\
             agent             agent-3  once     now       no server\n\n\
             OFFER NOT USED  WHY\n\
             h3              no port left"
        );
    }
}
