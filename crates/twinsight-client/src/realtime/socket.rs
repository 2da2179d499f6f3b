//! The sockets of a peer connection: settings come in, the addresses that are bound go out, and the stack gets sockets whose
//! receive buffer holds the burst of a large keyframe. The WebRTC stack's task runs the sockets.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rtc::shared::ifaces::ifaces;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    Transmit,
};

use super::attempt::EndReason;
use super::rtp_tap::SourceGate;
use crate::os_error::is_out_of_files;

/// The runtime that the stack is given: tokio's, with a larger receive buffer on every UDP socket, a [`SourceGate`] in front of
/// it, and no TCP.
///
/// With Linux's default of 208 KiB the kernel drops most packets of a keyframe that comes as 600 packets in one burst; with
/// 1 MiB it drops none.
#[derive(Debug)]
pub(super) struct MediaRuntime {
    pub(super) inner: Arc<dyn Runtime>,
    pub(super) recv_buffer_bytes: usize,
    pub(super) gate: Arc<SourceGate>,
}

impl Runtime for MediaRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        enlarge_receive_buffer(&socket, self.recv_buffer_bytes);
        Ok(Arc::new(GatedSocket {
            inner: self.inner.wrap_udp_socket(socket)?,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        _listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(udp_alone())
    }

    fn connect_tcp<'a>(
        &'a self,
        _remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(udp_alone())))
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.inner.resolve_host(host)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.yield_now()
    }
}

/// The error for everything that has to do with TCP: no connection goes over it, whatever candidates the other side sends.
fn udp_alone() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "media goes over UDP alone")
}

/// A socket that throws away packets of sources that its connection has no more room for.
#[derive(Debug)]
struct GatedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: Arc<SourceGate>,
}

impl AsyncUdpSocket for GatedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received {
            for (buffer, meta) in bufs.iter_mut().zip(meta.iter()).take(*count) {
                let length = meta.len.min(buffer.len());
                for datagram in buffer[..length].chunks_mut(meta.stride.max(1)) {
                    self.gate.filter(datagram);
                }
            }
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

/// Enlarges a socket's receive buffer, and warns once if the kernel does not grant the size: it silently cuts it to
/// `net.core.rmem_max`.
fn enlarge_receive_buffer(socket: &UdpSocket, bytes: usize) {
    static SAID: Once = Once::new();
    let socket = socket2::SockRef::from(socket);
    let granted = socket
        .set_recv_buffer_size(bytes)
        .and_then(|()| socket.recv_buffer_size());
    // Linux reports twice the size that was granted, since it adds its own overhead.
    let granted = granted.map(|granted| granted / 2);
    if granted.as_ref().map_or(true, |granted| *granted < bytes) {
        SAID.call_once(|| {
            tracing::warn!(
                asked = bytes,
                granted = granted.unwrap_or_default(),
                "the kernel keeps the receive buffers of media sockets smaller than ice.recv_buffer_bytes: \
                 large keyframes may lose packets; raise net.core.rmem_max on the host"
            );
        });
    }
}

/// The addresses that a new connection binds: one for each address of the chosen interfaces.
///
/// `interfaces` names them; empty means every one but loopback and link-local addresses, and
/// loopback when there is no other. With `ports`, a free one of the range is taken for each.
pub fn bind_addresses(
    interfaces: &[String],
    ports: Option<&RangeInclusive<u16>>,
) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<IpAddr> = ifaces()?
        .into_iter()
        .filter(|interface| interfaces.is_empty() || interfaces.contains(&interface.name))
        .filter_map(|interface| interface.addr.map(|address| address.ip()))
        .filter(|ip| !is_link_local(*ip) && !ip.is_unspecified())
        .filter(|ip| !interfaces.is_empty() || !ip.is_loopback())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() && interfaces.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("no usable address on the interfaces {interfaces:?} of [ice]"),
        ));
    }
    let Some(ports) = ports else {
        // The stack binds the sockets later and does not say why it fails. Too many open files have a remedy, so they are found
        // here.
        if let Err(error) = addresses
            .first()
            .map_or(Ok(()), |ip| UdpSocket::bind((*ip, 0)).map(drop))
            && is_out_of_files(&error)
        {
            return Err(error);
        }
        return Ok(addresses
            .into_iter()
            .map(|ip| SocketAddr::new(ip, 0))
            .collect());
    };
    // Without a free port on one address the connection goes on with the others.
    let (bound, mut refused): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .map(|ip| free_port(ip, ports))
        .partition(Result::is_ok);
    match refused.pop() {
        Some(Err(error)) if bound.is_empty() => Err(error),
        _ => Ok(bound.into_iter().flatten().collect()),
    }
}

/// A port of the range that is free on the address right now. Starts at a random one, so that
/// several connections made at once rarely try the same.
fn free_port(ip: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<SocketAddr> {
    let count = ports.clone().count().max(1);
    let start = rand::random_range(0..count);
    let walk_once = ports.clone().skip(start).chain(ports.clone().take(start));
    for port in walk_once {
        let address = SocketAddr::new(ip, port);
        match UdpSocket::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) if is_taken(&error) => {}
            // No other port would help: the address is gone, or too many files are open.
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!(
            "all UDP ports {}-{} of [ice] udp_ports are taken on {ip}",
            ports.start(),
            ports.end()
        ),
    ))
}

/// True if a port is taken by somebody else, or reserved for others.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// Why an attempt ends for which no socket could be bound.
pub(super) fn why_unbound(error: &io::Error) -> EndReason {
    match error.kind() {
        _ if is_out_of_files(error) => EndReason::NoFiles,
        io::ErrorKind::AddrNotAvailable => EndReason::NoAddress,
        _ => EndReason::NoSocket,
    }
}

/// True for an error of the stack that means too many open files. The stack keeps only the text of what the system said.
pub(super) fn says_out_of_files(error: &impl fmt::Display) -> bool {
    let text = error.to_string();
    text.contains("(os error 23)") || text.contains("(os error 24)")
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => is_unicast_link_local(ip),
    }
}

fn is_unicast_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use webrtc::runtime::default_runtime;

    use super::*;

    #[test]
    fn loopback_is_bound_only_by_name() {
        let all = bind_addresses(&[], None).unwrap();
        assert!(all.len() == 1 || all.iter().all(|address| !address.ip().is_loopback()));
        let lo = bind_addresses(&["lo".to_owned()], None).unwrap();
        assert!(lo.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = bind_addresses(&["eth99".to_owned()], None).unwrap_err();
        assert!(error.to_string().contains("eth99"), "{error}");
        assert_eq!(why_unbound(&error), EndReason::NoAddress);
    }

    #[test]
    fn a_taken_port_is_passed_over_and_a_full_range_is_an_error() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_port(Ipv4Addr::LOCALHOST.into(), &(port..=port)).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert_eq!(why_unbound(&error), EndReason::NoSocket);
        // An address that is not ours is not a matter of ports.
        let error = free_port("192.0.2.1".parse().unwrap(), &(port..=port)).unwrap_err();
        assert_eq!(why_unbound(&error), EndReason::NoAddress);
    }

    #[tokio::test]
    async fn nothing_of_a_connection_goes_over_tcp() {
        let runtime = MediaRuntime {
            inner: default_runtime().unwrap(),
            recv_buffer_bytes: 0,
            gate: Arc::default(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = runtime.connect_tcp(address).await.map(drop);
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::Unsupported);
        let nobody = listener.accept().map(drop);
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let listening = runtime.wrap_tcp_listener(listener).map(drop);
        assert_eq!(listening.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn too_many_open_files_are_told_as_that() {
        let error = io::Error::from_raw_os_error(24);
        assert_eq!(why_unbound(&error), EndReason::NoFiles);
        let of_stack = rtc::shared::error::Error::from(io::Error::from_raw_os_error(24));
        assert!(says_out_of_files(&of_stack), "{of_stack}");
        assert!(!says_out_of_files(&io::Error::from_raw_os_error(98)));
    }
}
