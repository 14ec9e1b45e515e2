//! An nginx on host b, with everything that it writes in the scene's directory.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{interval, timeout};

use super::scene::{Process, Scene};
use crate::packets::lab::LIMIT;

const PORT: u16 = 8080;

/// It serves and takes files, and passes requests for `/live/` to a server of the test's behind it.
pub(super) struct Nginx {
    process: Process,
    /// At the address that is protected.
    pub(super) address: SocketAddrV6,
    /// `http://` and that.
    pub(super) url: String,
    access_log: PathBuf,
}

impl Nginx {
    /// Starts it. The server behind it is on this port of the host's loopback address.
    pub(super) async fn start(scene: &Scene, behind: u16) -> Self {
        for directory in ["files", "body", "other"] {
            std::fs::create_dir(scene.path(directory)).expect("a directory");
        }
        let here = scene.directory().display();
        let configuration = format!(
            "daemon off;
             master_process off;
             user root;
             pid {here}/nginx.pid;
             events {{ worker_connections 64; }}
             http {{
                 log_format requests '$request_method $status $connection_requests';
                 access_log {here}/access.log requests;
                 client_body_temp_path {here}/body;
                 proxy_temp_path {here}/other;
                 fastcgi_temp_path {here}/other;
                 uwsgi_temp_path {here}/other;
                 scgi_temp_path {here}/other;
                 client_max_body_size 0;
                 server {{
                     listen [::]:{PORT} ipv6only=on;
                     root {here}/files;
                     dav_methods PUT;
                     location /live/ {{
                         proxy_pass http://[::1]:{behind};
                         proxy_http_version 1.1;
                         proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection $http_connection;
                         proxy_buffering off;
                     }}
                 }}
             }}"
        );
        let configuration = scene.write("nginx.conf", configuration);
        let process = scene
            .command(scene.b(), "nginx")
            .args("-e stderr -p")
            .arg(scene.directory())
            .arg("-c")
            .arg(configuration)
            .start();
        scene.listening(scene.b(), PORT, &process).await;
        Self {
            process,
            address: SocketAddrV6::new(scene.server(), PORT, 0, 0),
            url: Self::url(scene.server()),
            access_log: scene.path("access.log"),
        }
    }

    /// Where it is at this address of the host.
    pub(super) fn url(address: Ipv6Addr) -> String {
        format!("http://[{address}]:{PORT}")
    }

    /// A line for each request that has ended: its method, its status, and its number on its connection. Waits until there are
    /// so many, since a client may be told before the log is.
    pub(super) async fn requests(&self, count: usize) -> Vec<String> {
        let lines = || -> Vec<String> {
            let text = std::fs::read_to_string(&self.access_log).expect("an access log");
            text.lines().map(str::to_owned).collect()
        };
        let mut tick = interval(Duration::from_millis(10));
        let wait = async {
            while lines().len() < count {
                tick.tick().await;
            }
        };
        let waited = timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "not {count} requests\n{}", self.process.log());
        lines()
    }
}
