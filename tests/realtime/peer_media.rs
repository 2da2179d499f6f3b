//! Two peer connections over loopback: a burst as large as a big keyframe arrives whole, stamped
//! with its arrival; a keyframe request, sender reports and the goodbye arrive too.
#![cfg(feature = "webrtc")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use twinsight::realtime::ice::IceSettings;
use twinsight::realtime::peer::{Peer, PeerEvent};
use twinsight::realtime::rtp_track::OutboundRtp;
use twinsight::realtime::rtp_track::TrackKind;
use twinsight::realtime::tee::{Inbound, TeeSink};

const BURST: u16 = 600;
const LIMIT: Duration = Duration::from_secs(20);

fn sink() -> (TeeSink, mpsc::UnboundedReceiver<Inbound>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        Arc::new(move |inbound| drop(sender.send(inbound))),
        receiver,
    )
}

fn loopback() -> IceSettings {
    IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    }
}

async fn connected(events: &mut mpsc::Receiver<PeerEvent>) {
    loop {
        match timeout(LIMIT, events.recv())
            .await
            .expect("an event in time")
        {
            Some(PeerEvent::Connected) => return,
            Some(_) => {}
            None => panic!("the connection ended before it was up"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_600_packets_arrives_whole() {
    let (camera_sink, mut camera_sees) = sink();
    let (viewer_sink, mut viewer_sees) = sink();
    let (viewer, mut viewer_events) = Peer::for_h264(&loopback(), &[], viewer_sink).await.unwrap();
    let (camera, mut camera_events) = Peer::for_h264(&loopback(), &[], camera_sink).await.unwrap();
    viewer.receive(TrackKind::Video).await.unwrap();
    let video = camera.send(TrackKind::Video, "video").await.unwrap();

    let offer = viewer.offer().await.unwrap();
    assert!(
        offer.contains("a=recvonly") && offer.contains("a=end-of-candidates"),
        "{offer}"
    );
    let first = offer
        .find("profile-level-id=42e01f")
        .expect("constrained baseline is offered");
    assert!(
        offer
            .match_indices("profile-level-id=")
            .all(|(at, _)| at >= first),
        "it is offered first:\n{offer}"
    );
    let answer = camera.answer(offer).await.unwrap();
    viewer.accept_answer(answer).await.unwrap();
    connected(&mut viewer_events).await;
    connected(&mut camera_events).await;

    let payload_type = video.payload_type().await.unwrap();
    let before = Instant::now();
    for sequence in 0..BURST {
        let payload = Bytes::from(vec![0x65; 1200]);
        let packet = OutboundRtp {
            payload_type,
            sequence,
            timestamp: 9_000,
            marker: sequence + 1 == BURST,
            payload,
        };
        video.send(packet).await.unwrap();
    }
    let mut seen = vec![false; usize::from(BURST)];
    while seen.contains(&false) {
        if let Inbound::Rtp(packet) = timeout(LIMIT, viewer_sees.recv())
            .await
            .expect("every packet in time")
            .unwrap()
        {
            assert!(packet.arrived_at >= before);
            seen[usize::from(packet.sequence)] = true;
        }
    }

    assert!(viewer.request_keyframe().await);
    let asked =
        async { while !matches!(camera_sees.recv().await, Some(Inbound::KeyframeRequest)) {} };
    timeout(LIMIT, asked)
        .await
        .expect("the keyframe request in time");
    let reported = async {
        loop {
            if let Some(Inbound::SenderReport { rtp_timestamp, .. }) = viewer_sees.recv().await {
                return rtp_timestamp;
            }
        }
    };
    timeout(LIMIT, reported)
        .await
        .expect("a sender report in time");

    assert!(!viewer.closed_by_peer().await);
    camera.close().await;
    let said_goodbye = async {
        while !viewer.closed_by_peer().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, said_goodbye)
        .await
        .expect("the camera's goodbye in time");
}
