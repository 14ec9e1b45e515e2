//! QUIC, which could move its connections by itself, and has no reason to.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivatePkcs8KeyDer;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use sha2::{Digest, Sha256};
use shim6_tests::isolated;
use shim6_tun::demo::traffic::pattern;
use shim6_tun::lab::Host;
use tokio::time::timeout;

use super::progress::Progress;
use super::scene::{BOUND, Scene};
use crate::packets::lab::{LIMIT, octets};

const NAME: &str = "shim6.example";
const SEED: usize = 0x5386;
const OCTETS: usize = 16 << 20;
/// When the path is cut.
const CUT: u64 = OCTETS as u64 / 4;
/// What a client takes at once: with the round-trip time it makes the transfer take seconds.
const WINDOW: u32 = 128 << 10;

/// The largest datagrams for which there is room on any path, with the header that a packet has after a failure.
const FITTING: u16 = 1500 - 40 - 8 - 8;
/// A sender with larger ones finds out by losing them, several times over, that they do not fit any more.
const BOUND_WITH_LOSSES: Duration = Duration::from_secs(8);

/// How large the datagrams may become, and what follows from it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    largest: Option<u16>,
    /// For how long the transfer may wait. Both ends give the connection up when nothing comes for so long.
    bound: Duration,
}

fn transport(case: Case) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .receive_window(VarInt::from_u32(WINDOW))
        .keep_alive_interval(Some(Duration::from_secs(1)))
        .max_idle_timeout(Some(IdleTimeout::try_from(case.bound).expect("a timeout")));
    if let Some(largest) = case.largest {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(largest);
        transport.mtu_discovery_config(Some(discovery));
    }
    Arc::new(transport)
}

/// A server that does not allow its clients to move, and what its clients need to know.
fn configurations(case: Case) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).expect("a configuration");
    server.transport_config(transport(case)).migration(false);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).expect("a configuration");
    client.transport_config(transport(case));
    (server, client)
}

fn endpoint(host: &Host, server: Option<ServerConfig>) -> Endpoint {
    let socket = host.namespace.run(|| UdpSocket::bind("[::]:0"));
    let socket = socket.expect("a namespace").expect("a socket");
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime)).expect("an endpoint")
}

/// Sends everything on the one connection that comes, and waits until the client has closed it.
async fn serve(endpoint: Endpoint) -> Connection {
    let connection = endpoint.accept().await.expect("a client").await.expect("a connection");
    let mut stream = connection.open_uni().await.expect("a stream");
    stream.write_all(&octets(SEED, OCTETS)).await.expect("the client reads");
    stream.finish().expect("it is open");
    connection.closed().await;
    connection
}

/// A transfer from host b to host a.
async fn transfer(case: Case) {
    let scene = Scene::set().await;
    let (server, client) = configurations(case);
    let server = endpoint(scene.b(), Some(server));
    let port = server.local_addr().expect("an address").port();
    let serving = tokio::spawn(serve(server));
    let client_endpoint = endpoint(scene.a(), None);
    let address = (scene.server(), port).into();
    let connecting = client_endpoint
        .connect_with(client, address, NAME)
        .expect("a connection");
    let connection = timeout(LIMIT, connecting)
        .await
        .expect("an answer")
        .expect("a connection");
    let addresses = |connection: &Connection| (connection.local_ip(), connection.remote_address());
    let before = addresses(&connection);

    let mut stream = connection.accept_uni().await.expect("a stream");
    let progress = Progress::default();
    let counted = progress.clone();
    let reading = tokio::spawn(async move {
        let mut hash = Sha256::new();
        while let Some(chunk) = stream.read_chunk(64 << 10, true).await.expect("the connection lives") {
            hash.update(&chunk.bytes);
            counted.add(chunk.bytes.len() as u64);
        }
        hash.finalize().to_vec()
    });
    scene.established().await;
    progress.reach(CUT).await;
    scene.fail(&progress).await;
    let hash = timeout(LIMIT, reading).await.expect("an end").expect("it reads");
    assert_eq!(hash, pattern::digest(SEED as u64, OCTETS as u64));
    assert_eq!(progress.amount(), OCTETS as u64);

    assert_eq!(addresses(&connection), before);
    connection.close(VarInt::from_u32(0), b"thanks");
    let served = timeout(LIMIT, serving).await.expect("an end").expect("it serves");
    assert_eq!(served.remote_address().ip(), scene.lab.ulids[0]);
    let path = served.stats().path;
    let application = format!(
        "QUIC transfer (quinn, {}; {} packets lost, datagrams of {} octets in the end)",
        case.name, path.lost_packets, path.current_mtu
    );
    scene.report_within(case.bound, &application, &progress);
    scene.end().await;
}

#[test]
fn a_transfer_goes_on_and_sees_no_migration() {
    isolated("applications::quic::a_transfer_goes_on_and_sees_no_migration", || {
        transfer(Case {
            name: "datagrams that fit on all paths",
            largest: Some(FITTING),
            bound: BOUND,
        })
    });
}

#[test]
fn a_transfer_whose_datagrams_do_not_fit_any_more_goes_on() {
    let name = "applications::quic::a_transfer_whose_datagrams_do_not_fit_any_more_goes_on";
    isolated(name, || {
        transfer(Case {
            name: "datagrams as large as it finds",
            largest: None,
            bound: BOUND_WITH_LOSSES,
        })
    });
}
