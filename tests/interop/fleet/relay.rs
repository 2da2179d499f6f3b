//! A relay of TCP connections that can be cut, or made to hang as a network does that loses everything.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are passed on.
    Open,
    /// They are kept until the way is open again; new connections are taken and nothing is answered.
    Hung,
    /// Connections are closed, new ones at once.
    Cut,
}

/// A relay to one address; ends with its handle.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, watched) = watch::channel(Way::Open);
        Self {
            address,
            way,
            task: tokio::spawn(serve(listener, target, watched)),
        }
    }

    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, way: watch::Receiver<Way>) {
    // Connections end with the relay.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(carry(near, target, way.clone()));
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) {
    let _ = way.wait_for(|way| *way != Way::Hung).await;
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    for side in [&near, &far] {
        let _ = side.set_nodelay(true);
    }
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    tokio::select! {
        () = pump(from_near, to_far, way.clone()) => {}
        () = pump(from_far, to_near, way) => {}
    }
}

/// Passes bytes on in one direction, until one side or the relay closes the connection.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 16 * 1024];
    let (mut cut, mut hung) = (way.clone(), way);
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = cut.wait_for(|way| *way == Way::Cut) => 0,
        };
        if read == 0 {
            return;
        }
        let is_open = hung.wait_for(|way| *way != Way::Hung).await;
        if is_open.map_or(true, |way| *way == Way::Cut) {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_relay_passes_on_keeps_or_closes() {
    use std::time::Duration;

    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let relay = Relay::start(target).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let mut answer = [0; 4];
    stream.write_all(b"open").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"open");

    relay.set(Way::Hung);
    stream.write_all(b"hung").await.unwrap();
    let kept = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer));
    assert!(kept.await.is_err(), "nothing comes while it hangs");
    relay.set(Way::Open);
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hung");

    relay.set(Way::Cut);
    assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
    let mut next = TcpStream::connect(relay.address).await.unwrap();
    assert_eq!(next.read(&mut answer).await.unwrap_or(0), 0);
}
