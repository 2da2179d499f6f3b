//! Two peer connections over loopback: a burst as large as a big keyframe arrives whole, stamped
//! with its arrival; a keyframe request, sender reports and the goodbye arrive too.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::{MediaSetup, Peer, PeerError, PeerEvent};
use twinsight_client::realtime::rtp_tap::{Inbound, RtpSink};
use twinsight_client::realtime::rtp_track::OutboundRtp;
use twinsight_client::realtime::rtp_track::TrackKind;
use twinsight_client::realtime::sdp::{Description, MAX_BYTES};
use twinsight_client::realtime::signal::Candidate;
use twinsight_media::codec::Codec;

const BURST: u16 = 600;
const LIMIT: Duration = Duration::from_secs(20);

fn sink() -> (RtpSink, mpsc::UnboundedReceiver<Inbound>) {
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
    let text = offer.as_str();
    assert!(
        text.contains("a=recvonly") && text.contains("a=end-of-candidates"),
        "{text}"
    );
    let first = text
        .find("profile-level-id=42e01f")
        .expect("constrained baseline is offered");
    assert!(
        text.match_indices("profile-level-id=")
            .all(|(at, _)| at >= first),
        "it is offered first:\n{text}"
    );
    let answer = camera.answer(&offer).await.unwrap();
    viewer.accept_answer(&answer).await.unwrap();
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
            seen[usize::from(packet.sequence.0)] = true;
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

/// A change of a description on its way to the other side.
type Edit = fn(&str) -> String;

fn lines_without(text: &str, begins: &[&str]) -> String {
    let kept = text
        .lines()
        .filter(|line| !begins.iter().any(|begin| line.starts_with(begin)));
    kept.flat_map(|line| [line, "\r\n"]).collect()
}

/// Puts a line in front of the first section.
fn for_the_session(text: &str, line: &str) -> String {
    text.replacen("m=", &format!("{line}\r\nm="), 1)
}

fn fmtp(text: &str, with: impl Fn(&str) -> Option<String>) -> String {
    let lines = text.lines().filter_map(|line| {
        let Some(rest) = line.strip_prefix("a=fmtp:") else {
            return Some(line.to_owned());
        };
        let payload_type = rest.split(' ').next()?;
        Some(format!("a=fmtp:{payload_type} {}", with(rest)?))
    });
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// Takes a line of a section out of it and says it for the session.
fn lifted(text: &str, begin: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(begin));
    let line = line.unwrap_or_default().to_owned();
    for_the_session(&lines_without(text, &[begin]), &line)
}

const DIRECTIONS: &[&str] = &["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];

/// What other sides write, all of it right by RFC 8866, 8829 or 6184.
const EDITS: &[(&str, Edit)] = &[
    ("nothing", |text| text.to_owned()),
    ("no direction", |text| lines_without(text, DIRECTIONS)),
    ("the direction for the session", |text| {
        for_the_session(&lines_without(text, DIRECTIONS), "a=sendonly")
    }),
    ("SHA-256 in capitals", |text| {
        text.replace("fingerprint:sha-256", "fingerprint:SHA-256")
    }),
    ("digits in small letters", |text| {
        let lines = text
            .lines()
            .map(|line| match line.strip_prefix("a=fingerprint:") {
                Some(rest) => format!("a=fingerprint:{}\r\n", rest.to_lowercase()),
                None => format!("{line}\r\n"),
            });
        lines.collect()
    }),
    ("two fingerprints", |text| {
        for_the_session(text, "a=fingerprint:sha-512 00:11:22")
    }),
    ("ICE and DTLS for the session", |text| {
        ["a=ice-ufrag", "a=ice-pwd", "a=setup", "a=fingerprint"]
            .iter()
            .fold(text.to_owned(), |text, begin| lifted(&text, begin))
    }),
    ("fmtp without packetization-mode", |text| {
        fmtp(text, |_| Some("profile-level-id=42e01f".to_owned()))
    }),
    ("fmtp with packetization-mode alone", |text| {
        fmtp(text, |_| Some("packetization-mode=1".to_owned()))
    }),
    ("packetization-mode 0", |text| {
        fmtp(text, |_| {
            Some("packetization-mode=0;profile-level-id=42e01f".to_owned())
        })
    }),
    ("a profile in capitals", |text| {
        fmtp(text, |_| {
            Some("profile-level-id=42C01F;packetization-mode=1".to_owned())
        })
    }),
    ("no fmtp", |text| fmtp(text, |_| None)),
    ("fmtp with spaces", |text| {
        fmtp(text, |rest| {
            let (_, parameters) = rest.split_once(' ')?;
            Some(parameters.replace(';', " ; "))
        })
    }),
    ("LF alone", |text| text.replace("\r\n", "\n")),
    ("a codec in small letters", |text| {
        text.replace("H264/90000", "h264/90000")
    }),
    ("no group", |text| lines_without(text, &["a=group:"])),
    ("lines that nobody needs", |text| {
        let text = text.replace(
            "t=0 0\r\n",
            "b=AS:x\r\nt=a b\r\ni=one\r\ni=two\r\nt=0 0\r\n",
        );
        for_the_session(&text, "a=extmap:broken\r\na=candidate:broken")
    }),
    ("a static payload type", |text| {
        text.replacen("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVPF 26", 1)
    }),
    ("two sources that are no group", |text| {
        format!(
            "{}a=ssrc:17 cname:a\r\na=ssrc:18 cname:a\r\n",
            lines_without(text, &["a=ssrc"])
        )
    }),
    ("no source", |text| lines_without(text, &["a=ssrc"])),
    ("another section of sound", |text| {
        format!("{text}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:sound\r\na=sendonly\r\n")
    }),
    ("another section of video", |text| {
        format!(
            "{text}m=video 9 UDP/TLS/RTP/SAVPF 99\r\na=mid:v2\r\na=sendonly\r\na=rtpmap:99 H264/90000\r\na=ssrc:19 cname:a\r\n"
        )
    }),
];

/// Video flows from one peer to the other, whose view of the camera's description is edited, and a request for a
/// keyframe flows back. With `audio` both describe sound as well.
async fn video_flows(what: &str, camera_dials: bool, audio: bool, edit: Edit) {
    let (viewer_sink, mut viewer_sees) = sink();
    let (camera_sink, mut camera_sees) = sink();
    let setup = |sink| MediaSetup {
        sink,
        video: vec![Codec::H264],
        audio,
        receives: true,
        sent_profile: None,
    };
    let loopback = loopback();
    let opened = Peer::for_media(&loopback, &[], setup(viewer_sink));
    let (viewer, mut viewer_events) = opened.await.unwrap();
    let opened = Peer::for_media(&loopback, &[], setup(camera_sink));
    let (camera, mut camera_events) = opened.await.unwrap();
    let video = camera.send(TrackKind::Video, "video").await.unwrap();
    if audio {
        camera.send(TrackKind::Audio, "audio").await.unwrap();
    }
    let edited = |text: &str| edit(text).parse::<Description>().unwrap();
    if camera_dials {
        let offer = camera.offer().await.unwrap();
        let answer = viewer.answer(&edited(offer.as_str())).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            answer.as_str().matches("\nm=").count(),
            edit(offer.as_str()).matches("\nm=").count(),
            "{what}: an answer has as many sections as its offer\n{}",
            answer.as_str()
        );
        // The camera has offered no more than its own sections.
        let begins: Vec<usize> = answer
            .as_str()
            .match_indices("\nm=")
            .map(|(at, _)| at)
            .collect();
        let own = offer.as_str().matches("\nm=").count();
        let end = begins.get(own).map_or(answer.as_str().len(), |at| at + 1);
        let answer: Description = answer.as_str()[..end].parse().unwrap();
        let accepted = camera.accept_answer(&answer).await;
        accepted.unwrap_or_else(|error| panic!("{what}: {error}\n{}", answer.as_str()));
    } else {
        viewer.receive(TrackKind::Video).await.unwrap();
        if audio {
            viewer.receive(TrackKind::Audio).await.unwrap();
        }
        let offer = viewer.offer().await.unwrap();
        let answer = camera.answer(&offer).await.unwrap();
        let accepted = viewer.accept_answer(&edited(answer.as_str())).await;
        accepted.unwrap_or_else(|error| panic!("{what}: {error}\n{}", answer.as_str()));
    }
    connected(&mut viewer_events).await;
    connected(&mut camera_events).await;
    let payload_type = video.payload_type().await.unwrap();
    let mut sequence = 0;
    let arrived = async {
        loop {
            let packet = OutboundRtp {
                payload_type,
                sequence,
                timestamp: 9_000,
                marker: true,
                payload: Bytes::from_static(&[0x65, 1, 2, 3]),
            };
            video.send(packet).await.unwrap();
            sequence += 1;
            let next = timeout(Duration::from_millis(20), async {
                loop {
                    if let Some(Inbound::Rtp(packet)) = viewer_sees.recv().await {
                        return packet.ssrc.0;
                    }
                }
            });
            if let Ok(ssrc) = next.await {
                return ssrc;
            }
        }
    };
    let case = format!("{what} (the camera dials: {camera_dials}, sound: {audio})");
    let arrived = timeout(LIMIT, arrived).await;
    let ssrc = arrived.unwrap_or_else(|_| panic!("{case}: no video"));
    let asks = viewer.request_keyframe_of(Some(ssrc)).await;
    assert!(asks, "{case}: nobody to ask for a keyframe");
    let asked =
        async { while !matches!(camera_sees.recv().await, Some(Inbound::KeyframeRequest)) {} };
    timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| panic!("{case}: the request for a keyframe does not arrive"));
    viewer.close().await;
    camera.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_answering_camera_writes_ends_in_video() {
    for (what, edit) in EDITS {
        for audio in [false, true] {
            video_flows(what, false, audio, *edit).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_dialling_camera_writes_ends_in_video() {
    for (what, edit) in EDITS {
        for audio in [false, true] {
            video_flows(what, true, audio, *edit).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_for_tcp_hinder_nobody_and_all_are_bounded() {
    let tcp = "candidate:1 1 tcp 2130706431 127.0.0.1 9 typ host tcptype passive".to_owned();
    let (viewer, mut viewer_events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
        .await
        .unwrap();
    let (camera, mut camera_events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
        .await
        .unwrap();
    let _video = camera.send(TrackKind::Video, "video").await.unwrap();
    viewer.receive(TrackKind::Video).await.unwrap();
    let offer = viewer.offer().await.unwrap();
    let answer = camera.answer(&offer).await.unwrap();
    let names: String = (0..100)
        .map(|n| format!("a=candidate:1 1 udp 1 name-{n}.local 9 typ host\r\n"))
        .collect();
    let text = format!("{}a={tcp}\r\n{names}a=candidate:no\r\n", answer.as_str());
    viewer.accept_answer(&text.parse().unwrap()).await.unwrap();
    assert_eq!(viewer.take_candidates_left_out().malformed, 1);
    let candidate = |text: String| Candidate {
        candidate: text,
        sdp_mid: Some("0".to_owned()),
        sdp_mline_index: Some(0),
        username_fragment: None,
    };
    viewer.add_candidate(candidate(tcp)).await.unwrap();
    let refused = viewer.add_candidate(candidate("candidate:x".to_owned()));
    assert!(matches!(refused.await, Err(PeerError::Candidate)));
    let mut taken = 0;
    for number in 0..200 {
        // Nobody is there; the discard port of addresses on loopback alone.
        let text = format!("candidate:1 1 udp 1 127.0.1.{number} 9 typ host");
        match viewer.add_candidate(candidate(text)).await {
            Ok(()) => taken += 1,
            Err(error) => assert!(matches!(error, PeerError::TooManyCandidates), "{error}"),
        }
    }
    assert!(
        (1..64).contains(&taken),
        "{taken} beside those of the description"
    );
    connected(&mut viewer_events).await;
    connected(&mut camera_events).await;
    viewer.close().await;
    camera.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_as_long_as_it_may_be_is_answered() {
    let (camera, _events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
        .await
        .unwrap();
    let _video = camera.send(TrackKind::Video, "video").await.unwrap();
    let (viewer, _events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
        .await
        .unwrap();
    let mut offer = camera.offer().await.unwrap().as_str().to_owned();
    offer += "m=audio 9 UDP/TLS/RTP/SAVPF";
    while offer.len() + " 100\r\n".len() <= MAX_BYTES {
        offer += " 100";
    }
    let offer: Description = format!("{offer}\r\n").parse().unwrap();
    let answer = viewer.answer(&offer).await.unwrap();
    let refused = "\nm=audio 0 UDP/TLS/RTP/SAVPF 100\r\n";
    assert!(answer.as_str().contains(refused), "{}", answer.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_that_were_damaged_on_the_way_break_nothing() {
    let (camera, _events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
        .await
        .unwrap();
    let _video = camera.send(TrackKind::Video, "video").await.unwrap();
    let offer = camera.offer().await.unwrap();
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        // Knuth's MMIX generator: the same damage in each run.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..60 {
        let mut lines: Vec<String> = offer.as_str().lines().map(str::to_owned).collect();
        for _ in 0..=random(4) {
            let at = random(lines.len());
            match random(5) {
                0 => drop(lines.remove(at)),
                1 => lines[at].truncate(random(20)),
                2 => {
                    let other = random(lines.len());
                    lines.swap(at, other);
                }
                3 => lines[at] = lines[at].replace(['1', '9'], "99999"),
                _ => {
                    let copy = lines[at].clone();
                    lines.insert(random(lines.len()), copy);
                }
            }
        }
        let Ok(damaged) = lines.join("\r\n").parse::<Description>() else {
            refused += 1;
            continue;
        };
        let (viewer, _events) = Peer::for_h264(&loopback(), &[], Arc::new(|_| {}))
            .await
            .unwrap();
        // On a task of its own, so that a panic of the stack is seen.
        let answer = tokio::spawn(async move { viewer.answer(&damaged).await });
        match answer.await.expect("nothing panics") {
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} {refused}");
}
