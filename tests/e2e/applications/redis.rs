//! A Redis replica that follows its master.

use std::time::Duration;

use shim6_tests::{isolated, tools};
use shim6_tun::lab::Host;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};

use super::progress::Progress;
use super::scene::{BOUND, Process, Scene};
use crate::packets::lab::LIMIT;

const PORT: u16 = 6379;
/// Between two keys.
const PACE: Duration = Duration::from_millis(5);
/// Keys to see at the replica in each phase.
const KEYS: u64 = 200;
const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];

/// A server that gives a replication link up when it is silent for as long as an application may wait. Clients of this host talk
/// to it by a socket of this name.
fn start_server(scene: &Scene, host: &Host, name: &str, more: &str) -> Process {
    let directory = scene.path(&format!("{name}-data"));
    std::fs::create_dir(&directory).expect("a directory");
    scene
        .command(host, "redis-server")
        .arg("--dir")
        .arg(directory)
        .arg("--unixsocket")
        .arg(scene.path(name))
        .arg("--save")
        .arg("")
        .args("--appendonly no --protected-mode no --enable-debug-command yes")
        .args("--repl-diskless-sync no --repl-ping-replica-period 1 --repl-timeout")
        .arg(BOUND.as_secs().to_string())
        .args(more)
        .start()
}

/// What the server of this name answers.
async fn ask(scene: &Scene, host: &Host, name: &str, question: &str) -> String {
    let mut client = scene
        .command(host, "redis-cli")
        .arg("-s")
        .arg(scene.path(name))
        .args(question)
        .start();
    client.ended().await;
    client.said()
}

/// Waits until an answer contains these words.
async fn until_answered(scene: &Scene, host: &Host, name: &str, question: &str, words: &str, server: &Process) {
    let mut tick = interval(Duration::from_millis(50));
    let wait = async {
        while !ask(scene, host, name, question).await.contains(words) {
            tick.tick().await;
        }
    };
    let waited = timeout(LIMIT, wait).await;
    assert!(waited.is_ok(), "{name}: {question}: not {words}\n{}", server.log());
}

/// The replica's number and address, as the master knows its connection.
async fn connection(scene: &Scene) -> Vec<String> {
    let clients = ask(scene, scene.b(), "master", "CLIENT LIST TYPE replica").await;
    let fields = clients.split_whitespace();
    fields
        .filter(|field| field.starts_with("id=") || field.starts_with("addr="))
        .map(str::to_owned)
        .collect()
}

/// Sets numbered keys at the master until it is told to stop, and says how many.
async fn set_keys(mut client: Process, mut stop: oneshot::Receiver<()>) -> u64 {
    let mut input = client.child.stdin.take().expect("a pipe");
    let (mut tick, mut number) = (interval(PACE), 0);
    while stop.try_recv().is_err() {
        tick.tick().await;
        let line = format!("SET key:{number} {number:0>200}\n");
        input.write_all(line.as_bytes()).await.expect("redis-cli reads");
        number += 1;
    }
    drop(input);
    client.succeeded().await;
    number
}

#[test]
fn a_replica_follows_its_master_all_the_time() {
    if !tools::require(&PROGRAMS) {
        return;
    }
    isolated(
        "applications::redis::a_replica_follows_its_master_all_the_time",
        || async {
            let scene = Scene::set().await;
            let server = scene.server();
            let bind = format!("--bind {server} --port {PORT}");
            let master = start_server(&scene, scene.b(), "master", &bind);
            scene.listening(scene.b(), PORT, &master).await;
            let replicate = format!("--port 0 --replicaof {server} {PORT}");
            let replica = start_server(&scene, scene.a(), "replica", &replicate);
            let replication = "INFO replication";
            until_answered(
                &scene,
                scene.a(),
                "replica",
                replication,
                "master_link_status:up",
                &replica,
            )
            .await;
            let before = connection(&scene).await;
            assert_eq!(before.len(), 2, "{before:?}");

            // The replica tells of each command when it carries it out.
            let mut monitor = scene
                .command(scene.a(), "redis-cli")
                .arg("-s")
                .arg(scene.path("replica"))
                .arg("MONITOR")
                .with_output()
                .start();
            let mut lines = BufReader::new(monitor.child.stdout.take().expect("a pipe")).lines();
            let heading = lines.next_line().await.expect("what redis-cli writes");
            assert_eq!(heading.as_deref(), Some("OK"));
            let progress = Progress::default();
            let counted = progress.clone();
            let reading = tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.contains("\"SET\"") {
                        counted.add(1);
                    }
                }
            });
            let client = scene
                .command(scene.b(), "redis-cli")
                .arg("-s")
                .arg(scene.path("master"))
                .with_input()
                .start();
            let (stop, stopped) = oneshot::channel();
            let setting = tokio::spawn(set_keys(client, stopped));

            scene.established().await;
            progress.advance(KEYS).await;
            scene.fail(&progress).await;
            progress.advance(KEYS).await;
            scene.heal(&progress).await;
            progress.advance(KEYS).await;
            stop.send(()).expect("it sets keys");
            progress.reach(setting.await.expect("it sets keys")).await;
            reading.abort();

            assert_eq!(connection(&scene).await, before, "{}", replica.log());
            let statistics = ask(&scene, scene.b(), "master", "INFO stats").await;
            assert!(statistics.contains("sync_full:1\r\n"), "{statistics}");
            assert!(statistics.contains("sync_partial_ok:0\r\n"), "{statistics}");
            let digest = ask(&scene, scene.b(), "master", "DEBUG DIGEST").await;
            assert_eq!(digest.trim().len(), 40, "{digest}");
            assert_eq!(ask(&scene, scene.a(), "replica", "DEBUG DIGEST").await, digest);
            scene.report("Redis replication", &progress);
            scene.end().await;
        },
    );
}
