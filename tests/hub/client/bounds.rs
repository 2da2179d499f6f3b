//! What waits is bounded, and what does not fit is refused or dropped and counted.

use super::*;

#[tokio::test]
async fn bursts_of_pings_and_of_wishes_for_acknowledgements_end_nothing() {
    const BURST: usize = 20_000;
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let _messages = client.messages(10, |message| message.twin_id == "node");
    // All of it is on the way before the first answer is read.
    let (mut sink, mut stream) = peer.split();
    let burst = async {
        for n in 0..BURST {
            for frame in [
                Message::text("2"),
                Message::Ping(vec![7; 100].into()),
                Message::text("6"),
                Message::text("439999999[1]"),
                Message::text("499999999999-[]"),
                Message::text(format!("42{n}[\"news\",1]")),
            ] {
                sink.feed(frame).await.unwrap();
            }
        }
        sink.send(Message::text("2last")).await.unwrap();
    };
    let answers = async {
        let (mut acks, mut is_last) = (0, false);
        while acks < BURST || !is_last {
            match soon("an answer", stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    acks += usize::from(text.starts_with("43"));
                    is_last |= text.as_str() == "3last";
                }
                Some(Ok(_)) => {}
                other => panic!("the client left: {other:?}"),
            }
        }
    };
    tokio::join!(burst, answers);
    peer = sink.reunite(stream).unwrap();
    let (answer, ()) = tokio::join!(soon("the answer", client.get_twin("x")), async {
        let (id, _) = loop {
            let text = hear(&mut peer).await;
            if let Some(call) = text.strip_prefix("42") {
                let (id, call) = call.split_at(call.find('[').unwrap());
                break (id.parse::<u64>().unwrap(), call.to_owned());
            }
        };
        say(&mut peer, &format!(r#"43{id}[{{"twin":{{"id":"x"}}}}]"#)).await;
    });
    assert_eq!(answer.unwrap().id, "x");
    assert_eq!(metrics.hub_reconnects.get(), 0);
    let malformed = metrics.encode();
    let counted = malformed
        .lines()
        .find_map(|line| {
            line.strip_prefix("twinsight_malformed_input_total{kind=\"hub_message\"} ")
        })
        .and_then(|count| count.parse::<usize>().ok());
    assert!(counted >= Some(2 * BURST), "{counted:?}");
}

#[tokio::test]
async fn a_hub_that_wants_acknowledgements_and_takes_none_is_left_with_a_reason() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = Duration::from_millis(500);
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let flood = tokio::spawn(async move {
        // Nothing is read; it ends when the client is gone.
        for n in 0_u64.. {
            let text = format!("42{n}[\"news\",1]");
            if peer.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(away(&client).await, AwayReason::Stuck);
    soon("the end of the flood", flood).await.unwrap();
}

#[tokio::test]
async fn a_frame_that_is_far_too_long_ends_the_connection_with_a_reason() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let long = Message::text("4".repeat(5 << 20));
    let (reason, _) = tokio::join!(away(&client), peer.send(long));
    assert!(
        matches!(&reason, AwayReason::Socket(why) if why.contains("too long")),
        "{reason:?}"
    );
    rogue.join(handshake()).await;
}

#[tokio::test]
async fn calls_and_messages_share_the_bytes_that_may_wait() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = DEADLINE;
    let client = HubClient::start(options);
    let peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    client
        .try_send_as("node", "x", json!({ "type": "t" }))
        .unwrap();
    // The hub reads nothing, so that these fill the socket and then what may wait.
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let payload = json!({ "data": "x".repeat(900_000) });
                client.call("reportEdgeTwinProperties", payload).await
            })
        })
        .collect();
    // This runtime has one thread: each time around every call goes as far as it can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let sent = client.try_send_as("node", "x", json!({ "type": "x".repeat(900_000) }));
    assert_eq!(sent, Err(HubError::Busy));
    drop(peer);
    for call in calls {
        let outcome = soon("the end of a call", call).await.unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
    }
    // What they held is given back.
    let _peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    soon(
        "a message",
        client.send("x", json!({ "type": "x".repeat(900_000) })),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn large_messages_wait_for_a_receiver_up_to_a_limit_in_bytes() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut slow = client.messages(64, |message| message.twin_id == "node");
    let mut end = client.messages(1, |message| message.twin_id == "end");
    let numbers = "0,".repeat(450_000);
    for n in 0..8 {
        let text = format!(r#"42["twinMessage",{{"twinId":"node","data":[{numbers}{n}]}}]"#);
        say(&mut peer, &text).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the end", end.recv()).await.unwrap();
    assert_eq!(slow.missed(), 6);
    for n in 0..2 {
        let message = soon("a message", slow.recv()).await.unwrap();
        assert_eq!(message.data[450_000], n);
    }
    assert_eq!(slow.try_recv(), None);
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":"again"}]"#,
    )
    .await;
    assert_eq!(soon("a message", slow.recv()).await.unwrap().data, "again");
}

#[tokio::test]
async fn large_updates_of_twins_wait_in_the_places_of_several() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut updates = client.twin_updates();
    let mut end = client.messages(1, |message| message.twin_id == "end");
    let text = "x".repeat(500_000);
    for n in 0..20 {
        let update = json!({ "id": "cam", "type": n.to_string(), "status": text });
        say(&mut peer, &format!(r#"42["twinUpdated",{update}]"#)).await;
    }
    for n in 20..24 {
        let update = json!({ "id": "cam", "type": n.to_string() });
        say(&mut peer, &format!(r#"42["twinUpdated",{update}]"#)).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the end", end.recv()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "23") {
        seen.push(soon("an update", updates.recv()).await.unwrap().twin.r#type);
    }
    // Sixteen places for each of the large ones, one for each of the small ones, of 64.
    assert_eq!(seen, ["17", "18", "19", "20", "21", "22", "23"]);
    assert_eq!(updates.missed(), 17);
}

#[tokio::test]
async fn a_hub_that_takes_nothing_is_left_and_senders_are_told() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = Duration::from_millis(300);
    let client = HubClient::start(options);
    let peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let sends = (0..40).map(|_| {
        let client = client.clone();
        async move {
            client
                .send("x", json!({ "type": "x".repeat(900_000) }))
                .await
        }
    });
    let outcomes = soon(
        "the end of all sends",
        futures_util::future::join_all(sends),
    )
    .await;
    assert!(
        outcomes.contains(&Err(HubError::Disconnected)),
        "{outcomes:?}"
    );
    drop(peer);
}

#[tokio::test]
async fn what_a_receiver_does_not_take_is_dropped_and_counted() {
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut slow = client.messages(2, |message| message.twin_id == "node");
    let mut other = client.messages(10, |message| message.twin_id == "end");
    for n in 0..5 {
        let text = format!(r#"42["twinMessage",{{"twinId":"node","data":{n}}}]"#);
        say(&mut peer, &text).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the last message", other.recv()).await.unwrap();
    assert_eq!(slow.missed(), 3);
    assert_eq!(slow.recv().await.unwrap().data, 0);
    assert_eq!(slow.recv().await.unwrap().data, 1);
    assert_eq!(slow.try_recv(), None);
    assert!(
        metrics
            .encode()
            .contains("signals_refused_total{reason=\"overflow\"} 3")
    );
}
