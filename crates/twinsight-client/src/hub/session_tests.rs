//! The session against a hub that is played by hand.

use std::time::Duration;

use serde_json::json;

use super::super::options::{HubMode, HubOptions};
use super::calls::MAX_PENDING;
use super::subscriptions::ASK_AGAIN_AFTER;
use super::*;

type Outputs = Vec<Output<u32>>;

const OPEN: &str =
    r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

fn profile(mode: HubMode) -> Profile {
    let options = match mode {
        HubMode::Direct => HubOptions::direct("http://h", "dev-1", "key-1".to_owned()),
        HubMode::Simulator => HubOptions::simulator("http://h", "node-1"),
        HubMode::Phyos => HubOptions::phyos("node-1"),
    };
    Profile::of(&options)
}

fn start(mode: HubMode) -> (Session<u32>, Instant) {
    let now = Instant::now();
    let mut session = Session::new(profile(mode), now);
    session.opened(now, now);
    (session, now)
}

fn outputs(session: &mut Session<u32>) -> Outputs {
    std::iter::from_fn(|| session.poll()).collect()
}

fn writes(session: &mut Session<u32>) -> Vec<String> {
    outputs(session)
        .into_iter()
        .map(|output| match output {
            Output::Write(text) | Output::Pong(text) => text,
            other => panic!("not a frame: {other:?}"),
        })
        .collect()
}

fn joined(mode: HubMode) -> (Session<u32>, Instant) {
    let (mut session, now) = start(mode);
    session.text(OPEN, now);
    session.text(r#"40{"sid":"x"}"#, now);
    if mode == HubMode::Direct {
        session.text(r#"42["deviceAuthenticated",{"status":"success"}]"#, now);
        session.text(
            r#"430[{"status":"success","twins":[{"id":"e","type":"Edge"},{"id":"d","type":"Device"}]}]"#,
            now,
        );
        session.text(r#"431[{"status":"success"}]"#, now);
    } else {
        session.text(
            r#"430[{"status":"success","twin":{"id":"node-1","type":"Edge"}}]"#,
            now,
        );
        session.text(r#"431[{"status":"success"}]"#, now);
    }
    assert!(session.is_joined());
    outputs(&mut session);
    (session, now)
}

#[test]
fn a_simulator_is_joined_once_the_own_twin_is_subscribed() {
    let (mut session, now) = start(HubMode::Simulator);
    session.subscribe("cam", 1, now);
    let answered = outputs(&mut session);
    assert!(matches!(
        answered[..],
        [Output::Answer {
            token: 1,
            result: Ok(_)
        }]
    ));
    session.text(OPEN, now);
    assert_eq!(writes(&mut session), [r#"40{"instanceId":"node-1"}"#]);
    session.text(r#"40{"sid":"x"}"#, now);
    assert_eq!(
        writes(&mut session),
        [
            r#"420["node-1",{"data":{"twinId":"node-1"},"method":"getTwinById"}]"#,
            r#"421["node-1",{"method":"twinSubscribe","sourceDeviceId":"","sourceTwinId":"node-1","twinId":"node-1"}]"#,
            r#"422["node-1",{"method":"twinSubscribe","sourceDeviceId":"","sourceTwinId":"node-1","twinId":"cam"}]"#,
        ]
    );
    assert!(!session.is_joined());
    session.text(r#"431[{"status":"success"}]"#, now);
    assert_eq!(
        outputs(&mut session),
        [Output::Joined {
            twin_id: "node-1".into()
        }]
    );
    session.text(r#"432[{"status":"error","message":"no such twin"}]"#, now);
    assert_eq!(
        outputs(&mut session),
        [Output::SubscriptionFailed {
            twin_id: "cam".into(),
            reason: "no such twin".into()
        }]
    );
    // The twin may become known: it is asked for until the hub grants it.
    let again = session.deadline().unwrap();
    assert!(again <= now + ASK_AGAIN_AFTER);
    session.tick(now + ASK_AGAIN_AFTER);
    let asked = r#"423["node-1",{"method":"twinSubscribe","sourceDeviceId":"","sourceTwinId":"node-1","twinId":"cam"}]"#;
    assert_eq!(writes(&mut session), [asked]);
    session.text(r#"433[{"status":"success"}]"#, now);
    session.tick(now + 3 * ASK_AGAIN_AFTER);
    assert_eq!(writes(&mut session), [] as [&str; 0]);
    // Two streams of one camera want it: the hub hears when neither does.
    session.subscribe("cam", 2, now);
    outputs(&mut session);
    session.unsubscribe("cam");
    assert_eq!(writes(&mut session), [] as [&str; 0]);
    session.unsubscribe("cam");
    assert_eq!(
        writes(&mut session),
        [r#"42["node-1",{"method":"twinUnsubscribe","sourceTwinId":"node-1","twinId":"cam"}]"#]
    );
    session.unsubscribe("cam");
    assert_eq!(writes(&mut session), [] as [&str; 0]);
}

#[test]
fn direct_authenticates_then_connects_the_device_and_uses_its_device_twin() {
    let (mut session, now) = start(HubMode::Direct);
    session.text(OPEN, now);
    assert_eq!(
        writes(&mut session),
        [r#"40{"accessKey":"key-1","deviceId":"dev-1"}"#]
    );
    session.text(r#"40{"sid":"x"}"#, now);
    assert_eq!(
        writes(&mut session),
        [r#"42["authenticate",{"accessKey":"key-1","deviceId":"dev-1"}]"#]
    );
    session.text(
        r#"42["deviceAuthenticated",{"status":"success"},{"extra":1}]"#,
        now,
    );
    assert_eq!(writes(&mut session), [r#"420["connectDevice"]"#]);
    session.text(
        r#"430[{"status":"success","twins":[{"id":"e","type":"Edge"},{"id":"d","type":"Device"}]}]"#,
        now,
    );
    let outputs_now = outputs(&mut session);
    assert!(matches!(&outputs_now[0], Output::OwnTwin(twin) if twin.id == "d"));
    assert_eq!(
        outputs_now[1],
        Output::Write(
            r#"421["twinSubscribe",{"sourceDeviceId":"dev-1","sourceTwinId":"d","twinId":"d"}]"#
                .into()
        )
    );
    session.text("431[{}]", now);
    assert_eq!(
        outputs(&mut session),
        [Output::Joined {
            twin_id: "d".into()
        }]
    );
}

#[test]
fn a_refused_key_is_told_and_other_errors_are_retried() {
    let (mut session, now) = start(HubMode::Direct);
    session.text(OPEN, now);
    session.text("40", now);
    outputs(&mut session);
    session.text(
        r#"42["deviceAuthenticated",{"status":"error","message":"wrong key"}]"#,
        now,
    );
    assert_eq!(outputs(&mut session), [Output::Refused("wrong key".into())]);

    let (mut session, now) = start(HubMode::Direct);
    session.text(OPEN, now);
    outputs(&mut session);
    session.text(r#"44{"message":"Unauthorized"}"#, now);
    assert_eq!(
        outputs(&mut session),
        [Output::Refused("Unauthorized".into())]
    );
    let repeated = r#"42["deviceAuthenticated",{"status":"error","message":"Unknown device dev-1, or wrong key KEY-1"}]"#;
    assert!(
        matches!(&answered(&["40", repeated])[..], [Output::Refused(_)]),
        "the credentials are no other words"
    );

    let (mut session, now) = start(HubMode::Simulator);
    session.text(OPEN, now);
    outputs(&mut session);
    session.text(r#"44{"message":"try later\n"}"#, now);
    assert_eq!(
        outputs(&mut session),
        [Output::Lost(AwayReason::Rejected {
            step: "CONNECT",
            message: r"try later\n".into()
        })]
    );
}

/// What becomes of a client in direct mode that is answered with these frames.
fn answered(frames: &[&str]) -> Outputs {
    let (mut session, now) = start(HubMode::Direct);
    session.text(OPEN, now);
    outputs(&mut session);
    for frame in frames {
        session.text(frame, now);
    }
    outputs(&mut session)
        .into_iter()
        .filter(|output| matches!(output, Output::Lost(_) | Output::Refused(_)))
        .collect()
}

#[test]
fn a_hub_in_trouble_refuses_nobody() {
    for frame in [
        r#"44{"message":"auth service is restarting"}"#,
        r#"44{"message":"keyspace is loading"}"#,
        r#"44{"message":"access denied: maintenance"}"#,
        r#"44"credentials cannot be checked now""#,
        "44",
    ] {
        assert!(
            matches!(
                &answered(&[frame])[..],
                [Output::Lost(AwayReason::Rejected { .. })]
            ),
            "{frame}"
        );
    }
    for payload in [
        "",
        ",null",
        ",{}",
        r#","no""#,
        r#",{"status":"pending","message":"key"}"#,
        r#",{"status":"error","message":"auth service is restarting"}"#,
        r#",{"status":"error","message":"keyspace is loading"}"#,
        r#",{"status":"error","message":"access denied by rate limiter"}"#,
        r#",{"status":"error","message":"authentication service failed"}"#,
    ] {
        let frame = format!(r#"42["deviceAuthenticated"{payload}]"#);
        assert!(
            matches!(
                &answered(&["40", &frame])[..],
                [Output::Lost(AwayReason::Rejected {
                    step: "authenticate",
                    ..
                })]
            ),
            "{frame}"
        );
    }
}

#[test]
fn the_hubs_words_come_without_the_key_and_short() {
    let frame = format!(
        r#"42["deviceAuthenticated",{{"status":"error","message":"KEY-1\u001b[2J is wrong {}"}}]"#,
        "x".repeat(900_000)
    );
    let answered = answered(&["40", &frame]);
    let [Output::Lost(AwayReason::Rejected { message: words, .. })] = &answered[..] else {
        panic!("{answered:?}");
    };
    assert!(words.starts_with(r"***\u{1b}[2J is wrong xxx"), "{words}");
    assert!(
        words.ends_with("x…") && words.chars().count() == 201,
        "{words}"
    );
}

#[test]
fn pongs_are_for_the_latest_ping_and_no_larger_than_a_word() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.text("2probe", now);
    assert_eq!(outputs(&mut session), [Output::Pong("3probe".into())]);
    session.text(&format!("2{}", "x".repeat(900_000)), now);
    assert!(matches!(
        &outputs(&mut session)[..],
        [Output::Malformed(_), Output::Pong(pong)] if pong == "3"
    ));
}

#[test]
fn acknowledgements_of_nothing_are_told_unless_they_are_late() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.text("431[{}]", now);
    assert_eq!(outputs(&mut session), [], "a second answer to a call");
    session.text("439999[{}]", now);
    assert!(matches!(&outputs(&mut session)[..], [Output::Malformed(_)]));
    assert!(session.is_joined());
}

#[test]
fn a_hub_that_is_not_listened_to_is_not_silent() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.did_not_listen(now + Duration::from_secs(44));
    session.tick(now + Duration::from_secs(45));
    assert_eq!(outputs(&mut session), []);
}

#[test]
fn every_reconnect_subscribes_again_with_the_own_twin_first() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.subscribe("cam-2", 1, now);
    session.subscribe("cam-1", 2, now);
    session.subscribe("cam-3", 3, now);
    session.unsubscribe("cam-3");
    outputs(&mut session);
    session.text("41", now);
    let lost = outputs(&mut session);
    assert!(lost.contains(&Output::Lost(AwayReason::Disconnected)));
    assert!(lost.contains(&Output::Answer {
        token: 1,
        result: Err(CallError::Disconnected)
    }));
    session.opened(now, now);
    session.text(OPEN, now);
    session.text("40{}", now);
    let rooms: Vec<String> = writes(&mut session)
        .iter()
        .filter(|text| text.contains("twinSubscribe"))
        .filter_map(|text| {
            let json: Value = serde_json::from_str(&text[text.find('[')?..]).ok()?;
            json[1]["twinId"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(rooms, ["node-1", "cam-1", "cam-2"]);
}

#[test]
fn acknowledgements_expire_after_twenty_seconds() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.call("getTwinById", Map::new(), 7, now);
    session.call("getIceServers", Map::new(), 8, now + Duration::from_secs(1));
    outputs(&mut session);
    session.text("2", now + Duration::from_secs(15));
    outputs(&mut session);
    assert_eq!(session.deadline(), Some(now + Duration::from_secs(20)));
    session.tick(now + Duration::from_millis(19_999));
    assert_eq!(outputs(&mut session), []);
    session.tick(now + Duration::from_secs(20));
    assert_eq!(
        outputs(&mut session),
        [Output::Answer {
            token: 7,
            result: Err(CallError::Expired)
        }]
    );
    // The late answer is nobody's; the other call's still comes.
    session.text("432[1]", now + Duration::from_secs(20));
    session.text("433[2]", now + Duration::from_secs(20));
    assert_eq!(
        outputs(&mut session),
        [Output::Answer {
            token: 8,
            result: Ok(json!(2))
        }]
    );
}

#[test]
fn silence_beyond_interval_and_timeout_is_the_end() {
    let (mut session, now) = joined(HubMode::Phyos);
    session.text("2", now + Duration::from_secs(10));
    assert_eq!(writes(&mut session), ["3"]);
    assert_eq!(session.deadline(), Some(now + Duration::from_secs(55)));
    session.tick(now + Duration::from_secs(54));
    assert_eq!(outputs(&mut session), []);
    session.tick(now + Duration::from_secs(55));
    assert_eq!(
        outputs(&mut session),
        [Output::Lost(AwayReason::PingTimeout(Duration::from_secs(
            45
        )))]
    );
    assert_eq!(session.deadline(), None);
}

#[test]
fn each_step_of_joining_has_a_limit() {
    for (mode, limit) in [
        (HubMode::Direct, 15),
        (HubMode::Simulator, 3),
        (HubMode::Phyos, 5),
    ] {
        let limit = Duration::from_secs(limit);
        let (mut session, now) = start(mode);
        session.text(OPEN, now);
        outputs(&mut session);
        session.tick(now + limit);
        let lost = Output::Lost(AwayReason::ConnectTimeout(limit));
        assert_eq!(outputs(&mut session), [lost]);
    }
    let (mut session, now) = start(HubMode::Direct);
    session.text(OPEN, now);
    session.text("40", now);
    outputs(&mut session);
    session.tick(now + Duration::from_secs(20));
    assert_eq!(
        outputs(&mut session),
        [Output::Lost(AwayReason::NoAnswer("authenticate"))]
    );

    let (mut session, now) = start(HubMode::Simulator);
    session.text(OPEN, now);
    session.text("40", now);
    outputs(&mut session);
    session.tick(now + Duration::from_secs(20));
    assert_eq!(
        outputs(&mut session),
        [Output::Lost(AwayReason::NoAnswer("twinSubscribe"))]
    );
}

#[test]
fn the_hubs_requests_for_acknowledgement_are_answered() {
    let (mut session, now) = joined(HubMode::Simulator);
    session.text(
        r#"4217["twinMessage",{"twinId":"a","data":{"type":"t"}},"more"]"#,
        now,
    );
    let output = outputs(&mut session);
    assert!(matches!(
        &output[..],
        [Output::Message { ack: Some(17), .. }]
    ));
    session.acknowledge(17, json!({ "status": "success" }));
    assert_eq!(writes(&mut session), [r#"4317[{"status":"success"}]"#]);
    session.text(r#"4218["news",1]"#, now);
    assert!(writes(&mut session)[0].starts_with("4318[{"));
    session.text(
        r#"4219["twinUpdated",{"id":"node-1","type":"Screen"}]"#,
        now,
    );
    let output = outputs(&mut session);
    assert!(matches!(&output[0], Output::OwnTwin(twin) if twin.r#type == "Screen"));
    assert!(matches!(&output[1], Output::TwinUpdated(_)));
    assert!(matches!(&output[2], Output::Write(text) if text.starts_with("4319[{")));
}

#[test]
fn malformed_input_is_told_and_the_connection_goes_on() {
    let (mut session, now) = joined(HubMode::Simulator);
    let nonsense = [
        "",
        "x",
        "0{}",
        OPEN,
        "4",
        "49",
        "42",
        "42{}",
        "42[]",
        "42[1]",
        "43[]",
        "40",
        "42/x,[\"a\"]",
        "452-",
        "451-[\"twinMessage\"",
        "42[\"twinMessage\"]",
        "42[\"twinMessage\",{\"twinId\":\"a\"}]",
        "42[\"twinUpdated\",7]",
        "4511-[\"a\"]",
    ];
    for text in nonsense {
        session.text(text, now);
        let output = outputs(&mut session);
        assert!(
            matches!(&output[..], [Output::Malformed(_)]),
            "{text:?} gave {output:?}"
        );
    }
    session.binary(Bytes::from_static(b"stray"), now);
    assert!(matches!(&outputs(&mut session)[..], [Output::Malformed(_)]));
    // The packet that cuts another one's attachments short is read all the same.
    session.text("452-[\"a\"]", now);
    session.text("42[\"twinMessage\",{\"twinId\":\"a\",\"data\":1}]", now);
    let output = outputs(&mut session);
    assert!(
        matches!(&output[..], [Output::Malformed(_), Output::Message { .. }]),
        "{output:?}"
    );
    assert!(session.is_joined());
}

#[test]
fn calls_without_a_hub_fail_at_once_and_calls_are_bounded() {
    let (mut session, now) = start(HubMode::Simulator);
    session.call("x", Map::new(), 1, now);
    let disconnected = Output::Answer {
        token: 1,
        result: Err(CallError::Disconnected),
    };
    assert_eq!(outputs(&mut session), [disconnected]);
    let (mut session, now) = joined(HubMode::Simulator);
    for _ in 0..MAX_PENDING {
        session.call("x", Map::new(), 1, now);
    }
    outputs(&mut session);
    session.call("x", Map::new(), 2, now);
    let too_many = Output::Answer {
        token: 2,
        result: Err(CallError::TooMany),
    };
    assert_eq!(outputs(&mut session), [too_many]);
}

#[test]
fn the_smaller_message_limit_holds() {
    let (session, _) = joined(HubMode::Simulator);
    assert_eq!(session.max_message_bytes(), 1_000_000);
}

mod no_input_panics {
    use proptest::prelude::*;

    use super::*;

    /// Frames that mean something, for mutation.
    const SEEDS: &[&str] = &[
        OPEN,
        "40{\"sid\":\"x\"}",
        "41",
        "2probe",
        "6",
        r#"44{"message":"no","data":{"status":401}}"#,
        r#"430[{"status":"success","twins":[{"id":"d","type":"Device","properties":{"desired":{"settings":{"a":1}}}}]}]"#,
        r#"431[{"status":"success"}]"#,
        r#"42["deviceAuthenticated",{"status":"error","message":"m"}]"#,
        r#"4217["twinMessage",{"twinId":"node-1","sourceTwinId":"cam","data":{"type":"media-default-node-1:answer","data":{"sdp":"v=0","type":"answer"},"peerId":"p"}},"more"]"#,
        r#"4218["twinUpdated",{"twinId":"node-1","data":{"id":"node-1","type":"Edge","properties":{"desired":{},"reported":{}}}}]"#,
        r#"452-19["twinMessage",{"twinId":"node-1","data":{"_placeholder":true,"num":0}}]"#,
        r#"461-1[{"_placeholder":true,"num":0}]"#,
    ];

    /// A seed with pieces cut out, doubled, or replaced by what readers stumble over.
    fn mutated() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("[".repeat(3000)),
            Just("{\"a\":".repeat(3000)),
            Just("9".repeat(400)),
            Just("-1e999999".to_owned()),
            Just("18446744073709551616".to_owned()),
            Just("null".to_owned()),
            Just("\"\\ud800\"".to_owned()),
            Just("x".repeat(70_000)),
            Just(String::new()),
            any::<String>(),
        ];
        let edit = (
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            piece,
        );
        (
            prop::sample::select(SEEDS),
            prop::collection::vec(edit, 0..4),
        )
            .prop_map(|(seed, edits)| {
                let mut text = seed.to_owned();
                for (from, length, piece) in edits {
                    let from = text.floor_char_boundary(from.index(text.len() + 1));
                    let end = (from + length.index(12)).min(text.len());
                    let end = text.ceil_char_boundary(end);
                    text.replace_range(from..end, &piece);
                }
                text
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn mutated_frames(
            frames in prop::collection::vec((mutated(), any::<bool>()), 0..24),
            direct in any::<bool>(),
            is_joined in any::<bool>(),
        ) {
            let mode = if direct { HubMode::Direct } else { HubMode::Simulator };
            let (mut session, mut now) = if is_joined { joined(mode) } else { start(mode) };
            for n in 0..8 {
                session.subscribe(&format!("cam-{n}"), n, now);
            }
            for (frame, binary) in frames {
                now += Duration::from_millis(700);
                if binary {
                    session.binary(Bytes::from(frame.into_bytes()), now);
                } else {
                    session.text(&frame, now);
                }
                session.tick(now);
                let done = outputs(&mut session);
                // One frame causes a bounded number of things.
                prop_assert!(done.len() <= 40, "{}", done.len());
                for output in &done {
                    match output {
                        Output::Malformed(what) => prop_assert!(what.len() <= 300, "{what}"),
                        Output::Refused(words) => prop_assert!(words.chars().count() <= 201),
                        Output::Lost(reason) => {
                            prop_assert!(reason.to_string().chars().count() <= 400, "{reason}");
                        }
                        Output::Write(text) => prop_assert!(text.len() <= 1500, "{text}"),
                        _ => {}
                    }
                }
                prop_assert!(session.pending.len() <= 16, "{}", session.pending.len());
                // It is in use, or its end was told.
                let told = done.iter().any(|o| matches!(o, Output::Lost(_) | Output::Refused(_)));
                if told {
                    prop_assert_eq!(session.stage, Stage::Away);
                    session.opened(now, now);
                } else {
                    prop_assert_ne!(session.stage, Stage::Away);
                }
            }
        }

        #[test]
        fn nothing_but_an_explicit_no_refuses_a_client(
            before in ".{0,20}",
            word in "(auth|key|credential|forbidden|denied|unauthorized)",
            after in ".{0,20} (restarting|loading|later|service|limiter)",
            status in "(|success2|Error|failed|pending|error)",
        ) {
            let message = format!("{before}{word} {after}.");
            let error = json!({ "message": message, "data": { "status": 503 } });
            let answer = json!({ "status": status, "message": message });
            for frames in [
                vec![format!("44{error}")],
                vec![format!("44{}", json!(message))],
                vec!["40".to_owned(), format!("42[\"deviceAuthenticated\",{answer}]")],
                vec!["40".to_owned(), format!("42[\"deviceAuthenticated\",{}]", json!(message))],
            ] {
                let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
                let outputs = answered(&frames);
                prop_assert!(matches!(&outputs[..], [Output::Lost(_)]), "{:?}", outputs);
            }
        }
    }

    proptest! {
        #[test]
        fn in_any_state(
            frames in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    Just(OPEN.to_owned()),
                    Just("40{}".to_owned()),
                    Just("431[{}]".to_owned()),
                    "[0-6]{1,3}(\\[(\"twinMessage\"|\"twinUpdated\"|\"deviceAuthenticated\"),.{0,20}\\])?",
                ],
                0..12,
            ),
            direct in any::<bool>(),
        ) {
            let (mut session, now) = start(if direct { HubMode::Direct } else { HubMode::Simulator });
            for frame in frames {
                session.text(&frame, now);
                session.binary(Bytes::from(frame.into_bytes()), now);
                session.tick(now);
                outputs(&mut session);
            }
        }
    }
}
