//! The example of docs/lab.md: labs in the tests of another project.

use std::net::UdpSocket;
use std::time::Duration;

use shim6_tun::lab::{Break, Description, Direction, Impairment, Lab, LinkSpec, isolated};

#[test]
fn datagrams_pass_until_the_link_breaks() {
    // Runs the body in namespaces of its own, in a process of its own; says `skipped` where that is not allowed.
    isolated("datagrams_pass_until_the_link_breaks", || async {
        let description = Description::new()
            .host("client")
            .isp("isp")
            .host("server")
            .link(
                LinkSpec::between("client", "isp")
                    .named("access")
                    .impaired(Impairment::delay(Duration::from_millis(10))),
            )
            .link(LinkSpec::between("server", "isp"));
        let lab = Lab::up(&description).await.unwrap();

        // A socket belongs to the host on which it is opened.
        let open = |name| {
            let host = lab.host(name).unwrap();
            let socket = host
                .namespace
                .run(|| UdpSocket::bind((host.uplinks[0].address, 0)))
                .unwrap()
                .unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket
        };
        let (client, server) = (open("client"), open("server"));
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        assert_eq!(server.recv(&mut [0; 10]).unwrap(), 5);

        // So does a program.
        let mut program = lab.host("client").unwrap().namespace.command("cat");
        let interfaces = program.arg("/proc/net/if_inet6").output().unwrap();
        assert!(String::from_utf8_lossy(&interfaces.stdout).contains("eth0"));

        lab.link("access")
            .unwrap()
            .cut(Break::Blackhole, &Direction::ALL)
            .await
            .unwrap();
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        assert!(server.recv(&mut [0; 10]).is_err());
    });
}
