//! Data channels between two clients of this crate, through the development hub: what travels, what is
//! independent of what, what is bounded, and what survives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::{
    ChannelKind, ConnectionChange, ConnectionEvents, ConnectionType, HubClient, HubOptions,
    PeripheralOptions,
};
use twinsight_client::realtime::channel::ChannelEvent;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::{Peer, PeerEvent};
use twinsight_client::realtime::{
    AcceptOptions, ChannelError, ChannelState, CloseReason, DataChannel, DataChannelAcceptor,
    DataChannelOptions, Message, SendError,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

async fn start_hub(options: DevHubOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        options,
        std::future::pending(),
    ));
    url
}

async fn client(url: &str, twin: &str) -> HubClient {
    let connecting = HubClient::connect(HubOptions::simulator(url, twin));
    soon("joining", connecting).await.unwrap()
}

fn options(name: &str) -> DataChannelOptions {
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    DataChannelOptions::from(name)
        .with_ice(ice)
        .with_connect_limit(DEADLINE)
}

fn accepting(channel: DataChannelOptions) -> AcceptOptions {
    AcceptOptions::from(channel)
}

/// Accepts channels and sends back what comes.
fn echo(client: &HubClient, options: AcceptOptions) -> DataChannelAcceptor {
    let echo = |channel: DataChannel| async move {
        let mut messages = channel.messages();
        while let Some(message) = messages.recv().await {
            while let Err(SendError::Full { .. }) = channel.send(message.clone()).await {
                if channel.writable().await.is_err() {
                    return;
                }
            }
        }
    };
    client
        .instance()
        .accept_data_channels(options, echo)
        .unwrap()
}

/// Two clients, the second of which echoes on a channel.
async fn pair(name: &str) -> (HubClient, HubClient, DataChannelAcceptor) {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let acceptor = echo(&b, accepting(options(name)));
    (a, b, acceptor)
}

async fn dial(from: &HubClient, to: &str, options: DataChannelOptions) -> DataChannel {
    let dialling = from.instance().get_data_channel(to, options).await;
    dialling.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_json_and_bytes_arrive_as_what_they_are() {
    let (a, _b, acceptor) = pair("all").await;
    let channel = dial(&a, "b", options("all")).await;
    assert!(channel.is_open() && !channel.is_connecting());
    assert_eq!(
        (channel.target_twin_id(), channel.channel_name()),
        ("b", "all")
    );
    assert_eq!(channel.peer_id().unwrap().len(), 32);
    let mut echoes = channel.messages();
    let large = Bytes::from(vec![7; 262_144]);
    let sent: Vec<(Message, Message)> = vec![
        ("hello".into(), "hello".into()),
        ("".into(), "".into()),
        ("12".into(), json!(12).into()),
        (json!({"n": 1.5}).into(), json!({"n": 1.5}).into()),
        (
            Bytes::from_static(b"\x00\xff").into(),
            Bytes::from_static(b"\x00\xff").into(),
        ),
        (Bytes::new().into(), Bytes::new().into()),
        (large.clone().into(), large.into()),
    ];
    for (message, expected) in sent {
        channel.send(message).await.unwrap();
        assert_eq!(soon("the echo", echoes.recv()).await, Some(expected));
    }
    let mut unheard = channel.messages();
    channel.close().await;
    assert_eq!(channel.state(), ChannelState::Closed);
    assert_eq!(channel.send("late").await, Err(SendError::Closed));
    assert_eq!(soon("the end", echoes.recv()).await, None);
    assert_eq!(soon("the end", unheard.recv()).await, None);
    acceptor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_channels_to_one_peer_are_independent() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let _control = echo(&b, accepting(options("control")));
    let _data = echo(&b, accepting(options("data")));
    let (control, data) = tokio::join!(
        dial(&a, "b", options("control")),
        dial(&a, "b", options("data"))
    );
    let (mut of_control, mut of_data) = (control.messages(), data.messages());
    control.send("c").await.unwrap();
    data.send("d").await.unwrap();
    assert_eq!(soon("echo", of_control.recv()).await, Some("c".into()));
    assert_eq!(soon("echo", of_data.recv()).await, Some("d".into()));
    control.close().await;
    data.send("e").await.unwrap();
    assert_eq!(soon("echo", of_data.recv()).await, Some("e".into()));
    assert_eq!(of_control.try_recv(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_too_large_is_an_error_and_the_channel_goes_on() {
    let (a, _b, _acceptor) = pair("size").await;
    let channel = dial(&a, "b", options("size")).await;
    let mut echoes = channel.messages();
    let sent = channel.send(vec![0; 262_145]).await;
    assert_eq!(
        sent,
        Err(SendError::TooLarge {
            bytes: 262_145,
            limit_bytes: 262_144
        })
    );
    channel.send("still here").await.unwrap();
    let echo = soon("the echo", echoes.recv()).await;
    assert_eq!(echo, Some("still here".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_holds_the_sender_and_loses_nothing() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let (handed, mut accepted) = mpsc::channel(1);
    let hand_over = move |channel| {
        let handed = handed.clone();
        async move { handed.send(channel).await.unwrap() }
    };
    let instance = b.instance();
    let _acceptor = instance.accept_data_channels(accepting(options("slow")), hand_over);
    let mut narrow = options("slow");
    narrow.high_water_bytes = 256 * 1024;
    let channel = dial(&a, "b", narrow).await;
    let theirs = soon("the channel", accepted.recv()).await.unwrap();
    let mut sent = 0_u32;
    let full = loop {
        let mut message = sent.to_be_bytes().to_vec();
        message.resize(16 * 1024, 0);
        match channel.send(message).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "nothing is held back");
    };
    let SendError::Full {
        buffered_bytes,
        limit_bytes,
    } = full
    else {
        panic!("{full}");
    };
    assert_eq!(limit_bytes, 256 * 1024);
    assert!(buffered_bytes <= limit_bytes, "{buffered_bytes}");
    // The other side takes a window and a queue full before it holds on.
    let mut waits_still = 0;
    while tokio::time::timeout(Duration::from_secs(2), channel.writable())
        .await
        .is_ok()
    {
        let mut message = sent.to_be_bytes().to_vec();
        message.resize(16 * 1024, 0);
        if channel.send(message).await.is_ok() {
            sent += 1;
        }
        waits_still += 1;
        assert!(waits_still < 10_000, "nothing is held back");
    }
    let mut messages = theirs.messages();
    for number in 0..sent {
        let Some(Message::Binary(message)) = soon("a message", messages.recv()).await else {
            panic!("not bytes");
        };
        assert_eq!(message[..4], number.to_be_bytes());
    }
    soon("room", channel.writable()).await.unwrap();
    assert_eq!(theirs.lost_messages(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_goes_in_pieces_and_tells_its_progress() {
    let (a, _b, _acceptor) = pair("blob").await;
    let channel = dial(&a, "b", options("blob")).await;
    let mut echoes = channel.messages();
    let blob: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = blob.clone();
    let reading = tokio::spawn(async move {
        let mut came = Vec::new();
        while came.len() < expected.len() {
            match soon("a piece", echoes.recv()).await {
                Some(Message::Binary(piece)) => came.extend_from_slice(&piece),
                other => panic!("{other:?}"),
            }
        }
        assert!(came == expected, "the blob came back changed");
    });
    let mut steps = Vec::new();
    let sending = channel.send_in_pieces(blob, |progress| steps.push(progress.sent_bytes));
    soon("sending", sending).await.unwrap();
    assert!(steps.is_sorted() && steps.last() == Some(&5_000_000));
    assert!(steps.len() > 300);
    soon("reading", reading).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_takes_no_more_peers_than_it_has_places() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let acceptor = echo(&b, accepting(options("few")).with_max_peers(2));
    let first = dial(&a, "b", options("few")).await;
    let second = dial(&a, "b", options("few")).await;
    assert_eq!(acceptor.peers(), 2);
    let instance = a.instance();
    let third = instance.open_data_channel("b", options("few")).unwrap();
    let counted = async {
        while acceptor.refused() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the refusal", counted).await;
    assert!(third.is_connecting());
    let mut of_second = second.messages();
    first.close().await;
    soon("the place", third.opened()).await.unwrap();
    second.send("still").await.unwrap();
    assert_eq!(soon("echo", of_second.recv()).await, Some("still".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_awaited_channel_survives_its_peer_with_its_handlers() {
    let url = start_hub(DevHubOptions::default()).await;
    let b = client(&url, "b").await;
    let (got, mut messages) = mpsc::unbounded_channel();
    let (closing, mut closes) = mpsc::unbounded_channel();
    let handed_over = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&handed_over);
    let register = move |channel: DataChannel| {
        times.fetch_add(1, Ordering::Relaxed);
        channel.on_message(move |message| {
            let got = got.clone();
            async move { got.send(message).unwrap() }
        });
        channel.on_close(move |reason| {
            let closing = closing.clone();
            async move { closing.send(reason).unwrap() }
        });
        async {}
    };
    let instance = b.instance();
    let listener = instance.on_data_channel("a", options("kept"), register);
    let listener = listener.unwrap();
    for round in 0..3 {
        let a = client(&url, "a").await;
        let channel = dial(&a, "b", options("kept")).await;
        channel.send(json!(round)).await.unwrap();
        let message = soon("the message", messages.recv()).await;
        assert_eq!(message, Some(json!(round).into()));
        channel.close().await;
        a.close().await;
        let reason = soon("the close", closes.recv()).await.unwrap();
        assert_ne!(reason, CloseReason::Here);
    }
    assert_eq!(handed_over.load(Ordering::Relaxed), 1);
    assert!(listener.channel().is_connecting());
    assert_eq!(listener.channel().send("x").await, Err(SendError::NotOpen));
    assert_eq!(listener.channel().dropped_messages(), 1);
    listener.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_twin_that_is_awaited_is_answered() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b, other) = (
        client(&url, "a").await,
        client(&url, "b").await,
        client(&url, "other").await,
    );
    let instance = b.instance();
    let _listener = instance
        .on_data_channel("a", options("mine"), |_| async {})
        .unwrap();
    let others = other.instance();
    let wrong = others.open_data_channel("b", options("mine")).unwrap();
    let channel = dial(&a, "b", options("mine")).await;
    assert!(channel.is_open() && wrong.is_connecting());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legacy_dialect_works_both_ways_also_on_a_hub_that_echoes() {
    for echo_hub in [false, true] {
        let url = start_hub(DevHubOptions {
            echo: echo_hub,
            ..DevHubOptions::default()
        })
        .await;
        let (a, b) = (client(&url, "a").await, client(&url, "b").await);
        let legacy = || options("ignored").with_dialect(Dialect::Legacy);
        let instance = b.instance();
        let register = |channel: DataChannel| async move {
            let mut messages = channel.messages();
            while let Some(message) = messages.recv().await {
                channel.send(message).await.unwrap();
            }
        };
        let _listener = instance.on_data_channel("a", legacy(), register).unwrap();
        let channel = dial(&a, "b", legacy()).await;
        let mut echoes = channel.messages();
        channel.send("old").await.unwrap();
        assert_eq!(soon("echo", echoes.recv()).await, Some("old".into()));
    }
}

/// The next event about a name.
async fn event_of(events: &mut ConnectionEvents, name: &str) -> ConnectionChange {
    loop {
        let event = soon("a connection event", events.recv()).await.unwrap();
        if event.name == name {
            assert_eq!(event.kind, ChannelKind::Data);
            return event.change;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_tell_their_story() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let (mut of_a, mut of_b) = (a.connection_events(), b.connection_events());
    let acceptor = echo(&b, accepting(options("told")));
    let channel = dial(&a, "b", options("told")).await;
    let host = Some(ConnectionType::Host);
    let connected = ConnectionChange::Connected {
        connection_type: host,
    };
    assert_eq!(event_of(&mut of_a, "told").await, connected);
    assert_eq!(event_of(&mut of_b, "told").await, connected);
    acceptor.close().await;
    assert_eq!(
        event_of(&mut of_b, "told").await,
        ConnectionChange::Disconnected
    );
    assert_eq!(
        event_of(&mut of_a, "told").await,
        ConnectionChange::Disconnected
    );
    assert_eq!(
        event_of(&mut of_a, "told").await,
        ConnectionChange::Reconnecting { attempt: 1 }
    );
    let unanswered = ConnectionChange::Error {
        reason: "no answer to the offer",
    };
    assert_eq!(event_of(&mut of_a, "told").await, unanswered);
    let _acceptor = echo(&b, accepting(options("told")));
    loop {
        match event_of(&mut of_a, "told").await {
            ConnectionChange::Reconnecting { .. } => {}
            change if change == unanswered => {}
            change => {
                let reconnected = ConnectionChange::Reconnected {
                    connection_type: host,
                };
                assert_eq!(change, reconnected);
                break;
            }
        }
    }
    soon("the channel", channel.opened()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_closes() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let (closing, mut closes) = mpsc::unbounded_channel();
    let (got, mut messages) = mpsc::unbounded_channel();
    let register = move |channel: DataChannel| {
        let (closing, got) = (closing.clone(), got.clone());
        channel.on_message(move |message| {
            got.send(message).unwrap();
            std::future::ready(())
        });
        channel.on_close(move |reason| {
            let closing = closing.clone();
            async move { closing.send(reason).unwrap() }
        });
        async {}
    };
    let instance = b.instance();
    let _acceptor = instance
        .accept_data_channels(accepting(options("dropped")), register)
        .unwrap();
    let channel = dial(&a, "b", options("dropped")).await;
    let second = channel.clone();
    drop(channel);
    second.send("the last words").await.unwrap();
    drop(second);
    assert!(soon("the close", closes.recv()).await.is_some());
    let last = soon("the last words", messages.recv()).await;
    assert_eq!(last, Some("the last words".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_or_hangs_harms_nobody_else() {
    let (a, _b, _acceptor) = pair("handlers").await;
    let channel = dial(&a, "b", options("handlers")).await;
    let hung = Arc::new(AtomicBool::new(false));
    let is_hung = Arc::clone(&hung);
    channel.on_message(move |_| {
        is_hung.store(true, Ordering::Relaxed);
        std::future::pending()
    });
    channel.on_message(|_| async { panic!("as tested") });
    let taken_off = channel.on_message(|_| async { panic!("it was taken off") });
    assert!(channel.off_message(taken_off) && !channel.off_message(taken_off));
    let mut messages = channel.messages();
    for number in 0..200 {
        channel.send(json!(number)).await.unwrap();
        let echo = soon("echo", messages.recv()).await;
        assert_eq!(echo, Some(json!(number).into()));
    }
    assert!(hung.load(Ordering::Relaxed));
    assert_eq!(channel.lost_messages(), 200 - 64 - 1);
    let closing = channel.on_close(|_| async { panic!("it was taken off") });
    assert!(channel.off_close(closing) && !channel.off_close(closing));
    channel.close().await;
    assert_eq!(channel.lost_messages(), 200 - 64 - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_dialled_is_a_typed_error() {
    let url = start_hub(DevHubOptions {
        strict: true,
        twins: vec![
            json!({"id": "a", "type": "Edge"}),
            json!({"id": "b", "type": "Edge"}),
        ],
        ice_servers: vec![json!({
            "urls": ["stun:127.0.0.1:9", "turns:relay:443", "turn:relay?transport=tcp"],
            "username": "u", "credential": "c",
        })],
        ..DevHubOptions::default()
    })
    .await;
    let a = client(&url, "a").await;
    let dial = async |target: &str, options: DataChannelOptions| {
        let dialling = a.instance().get_data_channel(target, options).await;
        dialling.unwrap_err()
    };
    let impatient = options("default").with_connect_limit(Duration::from_millis(500));
    assert!(matches!(
        dial("", options("default")).await,
        ChannelError::Target { .. }
    ));
    let long = "x".repeat(1 << 20);
    let error = dial(&long, options("default")).await;
    assert!(matches!(&error, ChannelError::Target { twin_id, .. } if twin_id.len() == 64));
    assert!(matches!(
        dial("a", options("default")).await,
        ChannelError::Target { .. }
    ));
    assert!(matches!(
        dial("b", options("")).await,
        ChannelError::Target { .. }
    ));
    let unanswered = dial("b", impatient.clone()).await;
    assert!(
        matches!(&unanswered, ChannelError::NotOpened { twin_id, .. } if twin_id == "b"),
        "{unanswered}"
    );
    let relays_only = impatient.with_ice(IceSettings {
        relay_only: true,
        ..IceSettings::default()
    });
    let without = dial("b", relays_only).await;
    let ChannelError::NoRelay { refused, .. } = &without else {
        panic!("{without}");
    };
    assert_eq!(refused[..], ["turns:relay:443", "turn:relay?transport=tcp"]);
    assert!(without.to_string().contains("turns:relay:443"), "{without}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peripheral_has_channels_of_its_own_until_it_is_taken_over() {
    let url = start_hub(DevHubOptions::default()).await;
    let (edge, a) = (client(&url, "edge").await, client(&url, "a").await);
    let peripheral = || PeripheralOptions::new("", "hw-1");
    let created = edge.instance().create_peripheral(peripheral()).await;
    let created = created.unwrap();
    let id = created.twin.id;
    let lens = created.instance;
    let hold = |channel: DataChannel| async move {
        let mut messages = channel.messages();
        while let Some(message) = messages.recv().await {
            channel.send(message).await.unwrap();
        }
    };
    let acceptor = lens.accept_data_channels(accepting(options("in")), hold);
    let acceptor = acceptor.unwrap();
    let _a_accepts = echo(&a, accepting(options("out")));
    let inward = dial(&a, &id, options("in")).await;
    let outward = lens.get_data_channel("a", options("out")).await.unwrap();
    for channel in [&inward, &outward] {
        let mut echoes = channel.messages();
        channel.send("through the lens").await.unwrap();
        let came = soon("echo", echoes.recv()).await;
        assert_eq!(came, Some("through the lens".into()));
    }
    let (closing, mut closes) = mpsc::unbounded_channel();
    inward.on_close(move |reason| {
        closing.send(reason).unwrap();
        std::future::ready(())
    });
    let other = client(&url, "other").await;
    let taken = other.instance().create_peripheral(peripheral()).await;
    assert_eq!(taken.unwrap().twin.id, id);
    soon("the close", closes.recv()).await.unwrap();
    let mut state = outward.messages();
    assert_eq!(soon("the end", state.recv()).await, None);
    assert_eq!(outward.state(), ChannelState::Closed);
    let emptied = async {
        while acceptor.peers() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the acceptor's end", emptied).await;
    let again = lens.get_data_channel("a", options("out")).await;
    assert!(matches!(again, Err(ChannelError::Hub { .. })), "{again:?}");
}

/// An initiator that signs with the twin that it dials, as web clients do: the answer comes to that room,
/// and only the `peerId` tells whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_signs_as_the_twin_it_dials_is_answered_into_the_room() {
    for echo_hub in [false, true] {
        let url = start_hub(DevHubOptions {
            echo: echo_hub,
            ..DevHubOptions::default()
        })
        .await;
        let (web, b) = (client(&url, "web").await, client(&url, "b").await);
        let _fan_out = echo(&b, accepting(options("fan")));
        let instance = b.instance();
        let unsigned = options("plain").with_allow_unsigned(true);
        let _plain = instance
            .on_data_channel("somebody", unsigned, |channel| async move {
                let mut messages = channel.messages();
                while let Some(message) = messages.recv().await {
                    channel.send(message).await.unwrap();
                }
            })
            .unwrap();
        web.subscribe("b").await.unwrap();
        for name in ["fan", "plain"] {
            rendezvous(&web, name).await;
        }
    }
}

async fn rendezvous(web: &HubClient, name: &str) {
    let ice = options(name).ice.unwrap();
    let (peer, mut events) = Peer::for_messages(&ice, &[], 0).await.unwrap();
    let channel = peer.create_channel(&format!("dc-{name}-b")).await.unwrap();
    let sdp = peer.offer().await.unwrap();
    let answer_type = format!("dc-{name}-b:answer");
    let mut answers = web.messages(16, move |message| {
        message.twin_id == "b" && message.message_type() == Some(&answer_type)
    });
    let offer = json!({
        "type": format!("dc-{name}-b:offer"), "data": {"sdp": sdp.as_str(), "type": "offer"}, "peerId": name,
    });
    // The other side may still be about to listen.
    let answer = loop {
        web.send_as("b", "b", offer.clone()).await.unwrap();
        let wait = tokio::time::timeout(Duration::from_millis(500), answers.recv());
        if let Ok(answer) = wait.await {
            break answer.unwrap();
        }
    };
    assert_eq!(answer.data["peerId"], *name);
    let sdp = answer.data["data"]["sdp"].as_str().unwrap();
    peer.accept_answer(&sdp.parse().unwrap()).await.unwrap();
    let up = async { while !matches!(events.recv().await.unwrap(), PeerEvent::Connected) {} };
    soon("the connection", up).await;
    assert_eq!(soon("opening", channel.next()).await, ChannelEvent::Open);
    peer.close().await;
}
