//! Bad input gets a precise error and changes nothing. (Every route and error is in the golden files of the API; here
//! it is the running program that is asked.)

use crate::{Outcome, STEP, cluster, cotton, server_pids};
use cotton_tests::Wanted;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_nothing_changed() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, _) = cluster(&cotton, "good", 1).await?;
    let api = cotton.api();
    let pids = server_pids(&cotton);
    let with = |field: &str, value: Value| {
        let mut body = json!(Wanted::small(1));
        body[field] = value;
        body
    };
    let kilobytes_64 = "x".repeat(64 * 1024);
    let resources =
        |cpus: &str, mem: &str, disk: &str| json!({ "cpus": cpus.parse::<f64>().ok(), "mem": mem, "disk": disk });
    let cases = [
        ("Bad", with("size", json!(1)), "invalid_name"),
        (&"n".repeat(64), with("size", json!(1)), "invalid_name"),
        ("a", with("size", json!(0)), "invalid_size"),
        ("a", with("size", json!(-1)), "invalid_size"),
        ("a", with("size", json!(1.5)), "invalid_size"),
        ("a", with("size", json!(1_000_000_000)), "invalid_size"),
        ("a", with("size", json!("three")), "invalid_size"),
        ("a", with("user", json!("")), "invalid_user"),
        ("a", with("user", json!("o'hara")), "invalid_user"),
        ("a", with("user", json!("a\0b")), "invalid_user"),
        ("a", with("user", json!("a\nb")), "invalid_user"),
        ("a", with("user", json!(kilobytes_64)), "invalid_user"),
        ("a", with("password", json!("it's")), "invalid_password"),
        ("a", with("password", json!("a\0b")), "invalid_password"),
        ("a", with("password", json!("a\nb")), "invalid_password"),
        ("a", with("password", json!(kilobytes_64)), "invalid_password"),
        ("a", with("resources", json!("big")), "invalid_resources"),
        ("a", with("resources", resources("1", "1 parsec", "1gb")), "invalid_resources"),
        ("a", with("resources", resources("1", "32mb", "1gb")), "resources_too_small"),
        ("a", with("resources", resources("1", "1gb", "9999tb")), "resources_too_large"),
        ("a", with("colour", json!("red")), "unknown_field"),
        ("good", with("size", json!(1)), "cluster_exists"),
    ];
    for (name, body, code) in cases {
        let (status, refusal) = api.send(Method::POST, &format!("/api/v1/clusters/{name}"), Some(&body)).await?;
        assert!(status.is_client_error(), "{name} {body:.200}: {status}");
        assert_eq!(refusal["code"], code, "{refusal}");
        assert!(refusal.to_string().len() < 2_000, "a refusal is short");
    }
    for bytes in [2_000_000, 40_000_000] {
        let body = json!("x".repeat(bytes));
        let (status, refusal) = api.send(Method::POST, "/api/v1/clusters/a", Some(&body)).await?;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{refusal}");
    }
    let (status, _) = api.send(Method::PUT, "/api/v1/clusters/a", None).await?;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    // Apache Cotton's own route
    for form in [
        "",
        "cluster_user=a&num_nodes=0",
        "cluster_user=a&num_nodes=1.5",
        "cluster_user=a&size=%7B",
        "cluster_user=a&x=1",
    ] {
        let (status, refusal) = api.form(Method::POST, "/clusters/a", form).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{form}: {refusal}");
    }
    let (status, _) = api.form(Method::DELETE, "/clusters/good", "password=wrong").await?;
    assert_eq!(status, StatusCode::FORBIDDEN);

    let seen = api.until_healthy("good", STEP).await?;
    assert_eq!(api.clusters().await?.len(), 1);
    assert_eq!(server_pids(&cotton), pids);
    client.run(&seen.primary()?.endpoint, "CREATE DATABASE still_works").await
}
