//! Hubs that break the protocol or fall silent.

use super::*;

/// Frames that mean something, with pieces of them replaced by what readers stumble over.
fn mutated(random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    const SEEDS: &[&str] = &[
        r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        "2probe",
        "6",
        r#"43{}[{"status":"success","twin":{"id":"node","type":"Edge"}}]"#,
        r#"4217["twinMessage",{"twinId":"node","sourceTwinId":"cam","data":{"type":"media-default-node:offer","data":{"sdp":"v=0","type":"offer"},"peerId":"p"}}]"#,
        r#"42["twinMessage",{"twinId":"node","sourceTwinId":"node","data":{"type":"edgeInstance:detections","data":{"runId":"x"}}}]"#,
        r#"42["twinMessage",{"twinId":"node","sourceTwinId":"cam","data":{"type":"edgeInstance:response","data":{"requestId":"7","status":"success"}}}]"#,
        r#"4218["twinUpdated",{"twinId":"node","data":{"id":"node","type":"Edge","properties":{"desired":{"settings":{}}}}}]"#,
        r#"452-19["twinMessage",{"twinId":"node","data":{"_placeholder":true,"num":0}}]"#,
    ];
    let pieces: [Vec<u8>; 10] = [
        b"[".repeat(3000),
        br#"{"a":"#.repeat(3000),
        b"9".repeat(400),
        b"-1e999999".to_vec(),
        b"18446744073709551616".to_vec(),
        b"null".to_vec(),
        br#""\ud800""#.to_vec(),
        b"x".repeat(900_000),
        Vec::new(),
        vec![0xff, 0x00, 0x1b],
    ];
    let mut frame = SEEDS[random(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..random(3) {
        let from = random(frame.len() + 1);
        let end = (from + random(12)).min(frame.len());
        let piece = if random(40) == 0 {
            7
        } else {
            [0, 1, 2, 3, 4, 5, 6, 8, 9][random(9)]
        };
        frame.splice(from..end, pieces[piece].iter().copied());
    }
    frame
}

#[tokio::test]
async fn no_frame_of_a_hub_ends_the_client_or_fills_its_memory() {
    const FRAMES: usize = 4000;
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    client.watch_for_namesakes("run");
    let mut messages = client.messages(8, |_| true);
    let _updates = client.twin_updates();
    let _events = client.instance().events("seen", 8);
    // A fixed seed: what fails fails again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut left = FRAMES;
    while left > 0 {
        let mut peer = rogue.join(handshake()).await;
        soon("joining", client.joined()).await.unwrap();
        while left > 0 {
            left -= 1;
            let frame = mutated(&mut random);
            let message = match String::from_utf8(frame) {
                Ok(text) if random(8) > 0 => Message::text(text),
                Ok(text) => Message::binary(text.into_bytes()),
                Err(error) => Message::binary(error.into_bytes()),
            };
            if soon("a frame", peer.send(message)).await.is_err() {
                break;
            }
            while messages.try_recv().is_some() {}
        }
    }
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    while messages.try_recv().is_some() {}
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":"well"}]"#,
    )
    .await;
    assert_eq!(
        soon("a message", messages.recv()).await.unwrap().data,
        "well"
    );
}

#[tokio::test]
async fn a_hub_that_does_not_acknowledge_lets_calls_expire() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.ack = Duration::from_millis(300);
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let (answer, ()) = tokio::join!(soon("the expiry", client.get_twin("x")), async {
        heard_call(&mut peer).await;
    });
    assert!(matches!(answer, Err(HubError::Expired { what, .. }) if what == "getTwinById"));
    // It is still joined: the next call is answered.
    let (answer, ()) = tokio::join!(soon("the answer", client.get_twin("x")), async {
        let (id, _) = heard_call(&mut peer).await;
        say(&mut peer, &format!(r#"43{id}[{{"twin":{{"id":"x"}}}}]"#)).await;
    });
    assert_eq!(answer.unwrap().id, "x");
}

#[tokio::test]
async fn a_mute_hub_is_left() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut terms = handshake();
    // The time counts from the handshake on, and joining has to be over by then.
    terms["pingInterval"] = 1000.into();
    terms["pingTimeout"] = 1000.into();
    let _peer = rogue.join(terms).await;
    soon("joining", client.joined()).await.unwrap();
    let limit = Duration::from_secs(2);
    assert_eq!(away(&client).await, AwayReason::PingTimeout(limit));
    // And dialled again.
    rogue.join(handshake()).await;
}

#[tokio::test]
async fn malformed_frames_are_counted_and_the_stream_goes_on() {
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut messages = client.messages(10, to_twin("node"));
    let nonsense = [
        "",
        "x",
        "42",
        "42[",
        "42[7]",
        r#"42["twinMessage",[]]"#,
        "451-[\"a\"]",
        "40",
    ];
    for text in nonsense {
        say(&mut peer, text).await;
    }
    peer.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    peer.send(Message::text("4".repeat(2 << 20))).await.unwrap();
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":{"type":"t"}}]"#,
    )
    .await;
    soon("the message", messages.recv()).await.unwrap();
    // The packet that announces an attachment is counted when the next one cuts it short.
    let text = metrics.encode();
    let counted = format!(
        "malformed_input_total{{kind=\"hub_message\"}} {}",
        nonsense.len() + 2
    );
    assert!(text.contains(&counted), "{text}");
    assert!(matches!(
        &*client.status().borrow(),
        HubStatus::Joined { .. }
    ));
}

#[tokio::test]
async fn the_hub_gets_the_acknowledgements_that_it_asks_for() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let _messages = client.messages(10, |message| message.twin_id == "node");
    say(
        &mut peer,
        r#"425["twinMessage",{"twinId":"node","data":{"type":"t"}}]"#,
    )
    .await;
    let answer = r#"435[{"message":"Action completed","status":"success"}]"#;
    assert_eq!(hear(&mut peer).await, answer);
    say(
        &mut peer,
        r#"426["twinMessage",{"twinId":"other","data":{"type":"t"}}]"#,
    )
    .await;
    assert!(
        hear(&mut peer)
            .await
            .starts_with(r#"436[{"message":"No listeners"#)
    );
    say(&mut peer, "2probe").await;
    assert_eq!(hear(&mut peer).await, "3probe");
}
