//! The sockets of a search: questions go out by each interface to all, or to single hosts, and what comes back within the time is
//! handed on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::found::Findings;
use super::probe::{TYPES, probe};

/// Where questions of WS-Discovery go.
const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), PORT);

/// The port of WS-Discovery.
pub(super) const PORT: u16 = 3702;

/// When each question is sent, since datagrams get lost and cameras are slow to listen.
const SENT_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(750),
];

/// So many interfaces are asked; containers have a few more than cables.
const MAX_INTERFACES: usize = 32;

/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Everybody on the network of an interface.
    Interface(String),
    /// Everybody on the network that the system takes for such questions.
    AnyNetwork,
    /// This host.
    Host(IpAddr),
}

/// The interfaces that have a network of IPv4.
pub(super) fn interfaces() -> Vec<Target> {
    let mut names: Vec<String> = procfs::net::route()
        .unwrap_or_default()
        .into_iter()
        .map(|route| route.iface)
        .collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_INTERFACES);
    match names.is_empty() {
        true => vec![Target::AnyNetwork],
        false => names.into_iter().map(Target::Interface).collect(),
    }
}

/// Asks all targets at once and listens for `wait`. What stood against asking one of them comes back beside it; the others are asked
/// all the same.
pub(super) async fn search(
    targets: &[Target],
    wait: Duration,
    findings: &Mutex<Findings>,
) -> Vec<(Target, io::Error)> {
    // The same message is sent again, so that who has got it already can leave it out.
    let questions = TYPES.map(|kind| probe(rand::random(), kind));
    let asked = targets.iter().map(async |target| {
        let result = ask(target, &questions, wait, findings).await;
        result.err().map(|error| (target.clone(), error))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(
    target: &Target,
    questions: &[String],
    wait: Duration,
    findings: &Mutex<Findings>,
) -> io::Result<()> {
    let (socket, to) = open(target)?;
    let start = Instant::now();
    let sending = async {
        for at in SENT_AT {
            sleep_until(start + at).await;
            for question in questions {
                socket.send_to(question.as_bytes(), to).await?;
            }
        }
        Ok::<(), io::Error>(())
    };
    let listening = async {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let end = start + wait;
        while let Ok(received) = timeout_at(end, socket.recv_from(&mut buffer)).await {
            // What comes back of a host that nothing listens on is an error here, and no answer.
            if let Ok((length, from)) = received {
                findings.lock().take(from.ip(), &buffer[..length]);
            }
        }
    };
    // Where the first question cannot be sent there is nothing to wait for.
    tokio::select! {
        biased;
        Err(error) = sending => Err(error),
        () = listening => Ok(()),
    }
}

fn open(target: &Target) -> io::Result<(UdpSocket, SocketAddr)> {
    let to = match target {
        Target::Host(host) => SocketAddr::new(*host, PORT),
        Target::Interface(_) | Target::AnyNetwork => GROUP,
    };
    let (domain, any) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if let Target::Interface(name) = target {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    socket.bind(&SocketAddr::new(any, 0).into())?;
    socket.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(socket.into())?, to))
}
