//! Files that curl fetches from nginx and sends to it.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use shim6_tests::{isolated, tools};
use shim6_tun::demo::traffic::pattern;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::nginx::Nginx;
use super::progress::Progress;
use super::scene::{BOUND, Process, Program, Scene};
use crate::packets::lab::octets;

const SEED: usize = 0x5386;
const OCTETS: usize = 16 << 20;
/// When the path is cut.
const CUT: u64 = OCTETS as u64 / 4;
/// What curl exits with when a transfer takes too long.
const TIMED_OUT: i32 = 28;

/// A curl that gives up when nothing comes for as long as an application may wait, and says on its standard error how many
/// connections it took.
pub(super) fn curl(scene: &Scene) -> Program {
    scene
        .command(scene.a(), "curl")
        .args("--disable --silent --show-error --fail --fail-early --noproxy * --speed-limit 1 --speed-time")
        .arg(BOUND.as_secs().to_string())
        .args("--write-out %{stderr}connections=%{num_connects}")
}

/// Reads what curl writes, and gives its hash.
fn received(curl: &mut Process, progress: Progress) -> JoinHandle<Vec<u8>> {
    let mut output = curl.child.stdout.take().expect("a pipe");
    tokio::spawn(async move {
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
        loop {
            let length = output.read(&mut buffer).await.expect("what curl writes");
            if length == 0 {
                return hash.finalize().to_vec();
            }
            hash.update(&buffer[..length]);
            progress.add(length as u64);
        }
    })
}

#[test]
fn a_download_goes_on_and_the_one_beside_it_without_shim6_does_not() {
    if !tools::require(&["nginx", "curl"]) {
        return;
    }
    let name = "applications::http::a_download_goes_on_and_the_one_beside_it_without_shim6_does_not";
    isolated(name, || async {
        let scene = Scene::set().await;
        let nginx = Nginx::start(&scene, 1).await;
        scene.write("files/large", octets(SEED, OCTETS));
        // The same command, between addresses that no daemon cares for, on the same uplinks.
        let [client, server] = scene.lab.stage.plain();
        let mut control = curl(&scene)
            .arg("--interface")
            .arg(client.to_string())
            .arg(format!("{}/large", Nginx::url(server)))
            .with_output()
            .start();
        let mut protected = curl(&scene).arg(format!("{}/large", nginx.url)).with_output().start();
        let (progress, without) = (Progress::default(), Progress::default());
        let hash = received(&mut protected, progress.clone());
        let unprotected = received(&mut control, without.clone());

        scene.established().await;
        progress.reach(CUT).await;
        without.reach(1).await;
        scene.fail(&progress).await;
        protected.succeeded().await;
        assert_eq!(
            hash.await.expect("it reads"),
            pattern::digest(SEED as u64, OCTETS as u64)
        );
        assert_eq!(progress.amount(), OCTETS as u64);
        assert!(protected.said().ends_with("connections=1"), "{}", protected.log());
        assert_eq!(nginx.requests(1).await, ["GET 200 1"]);

        assert_eq!(control.ended().await.code(), Some(TIMED_OUT), "{}", control.log());
        unprotected.await.expect("it reads");
        println!(
            "HTTP download without Shim6: given up after {} s, with {} % of it",
            BOUND.as_secs(),
            100 * without.amount() / OCTETS as u64
        );
        assert!(without.amount() < OCTETS as u64);
        scene.report("HTTP download (curl, nginx)", &progress);
        scene.end().await;
    });
}

/// Octets in the files of a directory.
fn volume(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).expect("a directory");
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

#[test]
fn an_upload_goes_on() {
    if !tools::require(&["nginx", "curl"]) {
        return;
    }
    isolated("applications::http::an_upload_goes_on", || async {
        let scene = Scene::set().await;
        let nginx = Nginx::start(&scene, 1).await;
        let file = scene.write("large", octets(SEED, OCTETS));
        let mut curl = curl(&scene)
            .arg("--upload-file")
            .arg(file)
            .arg(format!("{}/large", nginx.url))
            .start();
        // What nginx has received it writes to a file.
        let (progress, body) = (Progress::default(), scene.path("body"));
        let watched = progress.clone();
        let watching = tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(2));
            loop {
                tick.tick().await;
                let more = volume(&body).saturating_sub(watched.amount());
                if more > 0 {
                    watched.add(more);
                }
            }
        });
        scene.established().await;
        progress.reach(CUT).await;
        scene.fail(&progress).await;
        curl.succeeded().await;
        watching.abort();
        assert!(curl.said().ends_with("connections=1"), "{}", curl.log());
        assert_eq!(nginx.requests(1).await, ["PUT 201 1"]);
        let arrived = std::fs::read(scene.path("files/large")).expect("a file");
        assert!(arrived == octets(SEED, OCTETS), "{} octets arrived", arrived.len());
        scene.report("HTTP upload (curl, nginx)", &progress);
        scene.end().await;
    });
}
