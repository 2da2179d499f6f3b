//! Tests of the texts that the stack is given for the descriptions of other sides, and of the answers that those get.

use proptest::prelude::*;

use super::super::h264_profile::{BASELINE, CONSTRAINED_BASELINE, CONSTRAINED_HIGH, HIGH, MAIN};
use super::super::normalise_formats::h264_parameters;
use super::*;

const FINGERPRINT: &str = "0A:1b:2C:3d:4E:5f:60:71:82:93:A4:b5:C6:d7:E8:f9:0A:1b:2C:3d:4E:5f:60:71:82:93:A4:b5:C6:d7:E8:f9";

fn head() -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef\r\na=fingerprint:sha-256 {FINGERPRINT}\r\na=setup:actpass\r\n"
    )
}

fn read(text: &str) -> Description {
    Description::parse(text).unwrap()
}

fn media() -> Wanted {
    Wanted::Media {
        video: vec![Codec::H264, Codec::Vp8],
        audio: false,
        receives: true,
        sent_profile: None,
    }
}

fn offer(sections: &str) -> Normalised {
    normalise(
        &read(&format!("{}{sections}", head())),
        Side::Offer,
        &media(),
        64,
        false,
    )
    .unwrap()
}

fn video(attributes: &str) -> String {
    format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtpmap:96 h264/90000\r\n{attributes}")
}

/// The lines of what the stack is given that begin so.
fn lines<'a>(normalised: &'a Normalised, begin: &str) -> Vec<&'a str> {
    let lines = normalised.text.lines();
    lines.filter(|line| line.starts_with(begin)).collect()
}

#[test]
fn what_is_said_for_the_session_is_said_in_each_section() {
    let given = offer(&video(""));
    let text = &given.text;
    let section = &text[text.find("m=").unwrap()..];
    for line in [
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
        "a=sendrecv\r\n",
        "a=mid:0\r\n",
        "a=ice-ufrag:abcd\r\n",
        "a=ice-pwd:0123456789abcdef\r\n",
        "a=setup:actpass\r\n",
        "a=rtpmap:96 H264/90000\r\n",
    ] {
        assert!(section.contains(line), "{line}{text}");
    }
    let digits = FINGERPRINT.to_uppercase();
    assert!(section.contains(&format!("a=fingerprint:sha-256 {digits}\r\n")));
}

#[test]
fn of_several_fingerprints_the_one_that_can_be_checked_is_taken() {
    let both = format!("a=fingerprint:SHA-512 00:11\r\na=fingerprint:SHA-256 {FINGERPRINT}\r\n");
    let without = head().replace("a=fingerprint", "a=x");
    let given = |fingerprints: &str| {
        let text = format!("{without}{}{fingerprints}", video(""));
        normalise(&read(&text), Side::Offer, &media(), 64, false)
    };
    assert_eq!(lines(&given(&both).unwrap(), "a=fingerprint:").len(), 1);
    for none in [
        "",
        "a=fingerprint:sha-1 00:11\r\n",
        "a=fingerprint:sha-256 zz\r\n",
    ] {
        assert_eq!(given(none).unwrap_err(), Unusable::Fingerprint);
    }
}

#[test]
fn h264_is_matched_by_what_its_parameters_mean() {
    for (parameters, registered, answered) in [
        ("", BASELINE, "packetization-mode=1"),
        (
            "a=fmtp:96 packetization-mode=1\r\n",
            BASELINE,
            "packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=42E01F\r\n",
            CONSTRAINED_BASELINE,
            "profile-level-id=42E01F;packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=42C01F;packetization-mode=1\r\n",
            CONSTRAINED_BASELINE,
            "profile-level-id=42C01F;packetization-mode=1",
        ),
        (
            "a=fmtp:96 Profile-Level-Id=4D8028; packetization-mode=1\r\n",
            CONSTRAINED_BASELINE,
            "Profile-Level-Id=4D8028;packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=4d0028\r\n",
            MAIN,
            "profile-level-id=4d0028;packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=640028\r\n",
            HIGH,
            "profile-level-id=640028;packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=640c28\r\n",
            CONSTRAINED_HIGH,
            "profile-level-id=640c28;packetization-mode=1",
        ),
        (
            "a=fmtp:96 profile-level-id=nonsense\r\n",
            BASELINE,
            "profile-level-id=nonsense;packetization-mode=1",
        ),
        (
            "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHg==,aM4G4g==\r\n",
            BASELINE,
            "packetization-mode=1",
        ),
    ] {
        let sections = video(parameters);
        let given = offer(&sections);
        let expected = format!("a=fmtp:96 {}", h264_parameters(registered));
        assert_eq!(
            lines(&given, "a=fmtp:"),
            [expected.as_str()],
            "{parameters}"
        );
        // The answer says it in the offer's own words.
        let stack = format!(
            "v=0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n{expected}\r\na=mid:0\r\n"
        );
        let text = given.complete(&read(&format!("{}{sections}", head())), &stack);
        let said: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("a=fmtp:96 "))
            .collect();
        assert_eq!(said.join(""), answered, "{parameters}{text}");
    }
}

#[test]
fn packets_of_mode_1_are_preferred_and_nobody_reads_those_of_mode_2() {
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 26\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=0;profile-level-id=42e01f\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=2\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=97\r\na=rtpmap:100 H264/90000\r\na=fmtp:100 packetization-mode=1;profile-level-id=42c028\r\na=rtcp-fb:* nack\r\na=rtcp-fb:97 nack pli\r\n";
    let given = offer(section);
    assert_eq!(lines(&given, "m="), ["m=video 9 UDP/TLS/RTP/SAVPF 97"]);
    assert_eq!(
        lines(&given, "a=rtcp-fb:"),
        ["a=rtcp-fb:97 nack pli", "a=rtcp-fb:97 nack"]
    );
}

#[test]
fn of_two_video_sections_one_is_taken_and_the_other_refused() {
    let sections = format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=rtpmap:111 opus/48000/2\r\n{}m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:1\r\na=rtpmap:97 H264/90000\r\na=ssrc:7 cname:x\r\n",
        video("a=ssrc:5 cname:x\r\na=ssrc:6 cname:x\r\n")
    );
    let given = offer(&sections);
    assert_eq!(given.further_videos, 1);
    assert_eq!(lines(&given, "m="), ["m=video 9 UDP/TLS/RTP/SAVPF 96"]);
    assert_eq!(lines(&given, "a=ssrc"), [""; 0], "whatever comes is taken");
    let stack = "v=0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
    let text = given.complete(&read(&format!("{}{sections}", head())), stack);
    let firsts: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        firsts,
        [
            "m=audio 0 UDP/TLS/RTP/SAVPF 111",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "m=video 0 UDP/TLS/RTP/SAVPF 97"
        ]
    );
}

#[test]
fn of_two_sections_the_one_that_goes_our_way_is_taken() {
    let taken = |receives, directions: [&str; 2]| {
        let mut text = head();
        for (index, direction) in directions.iter().enumerate() {
            text += &format!(
                "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{index}\r\na={direction}\r\na=rtpmap:96 H264/90000\r\na=ssrc:{index} cname:x\r\n"
            );
        }
        let wanted = Wanted::Media {
            video: vec![Codec::H264],
            audio: false,
            receives,
            sent_profile: None,
        };
        let given = normalise(&read(&text), Side::Offer, &wanted, 64, false).unwrap();
        let mid = lines(&given, "a=mid:").concat();
        let sources: Vec<String> = given.sources.iter().map(u32::to_string).collect();
        assert_eq!(mid, format!("a=mid:{}", sources.concat()), "{directions:?}");
        given.sources[0]
    };
    for (receives, directions, expected) in [
        (true, ["recvonly", "sendonly"], 1),
        (true, ["inactive", "sendonly"], 1),
        (true, ["recvonly", "sendrecv"], 1),
        (true, ["sendrecv", "sendonly"], 0),
        (true, ["recvonly", "inactive"], 0),
        (false, ["sendonly", "recvonly"], 1),
        (false, ["inactive", "sendrecv"], 1),
        (false, ["recvonly", "sendrecv"], 0),
        (false, ["sendonly", "inactive"], 0),
    ] {
        assert_eq!(taken(receives, directions), expected, "{directions:?}");
    }
}

#[test]
fn an_offer_without_a_group_or_names_is_answered_without() {
    let text = format!(
        "{}{}",
        head().replace("a=group:BUNDLE 0\r\n", ""),
        video("").replace("a=mid:0\r\n", "")
    );
    let offer = read(&text);
    let given = normalise(&offer, Side::Offer, &media(), 64, false).unwrap();
    assert_eq!(lines(&given, "a=group:"), ["a=group:BUNDLE 0"]);
    assert_eq!(lines(&given, "a=mid:"), ["a=mid:0"]);
    let stack = "v=0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    assert!(!given.complete(&offer, stack).contains("group"));
}

#[test]
fn a_name_of_a_section_that_looks_like_one_is_none() {
    let sections = format!(
        "{}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
        video("").replace("a=mid:0", "a=mid:m=0")
    );
    let given = offer(&sections);
    let stack = "v=0\r\na=group:BUNDLE m=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:m=0\r\n";
    let text = given.complete(&read(&format!("{}{sections}", head())), stack);
    let refused = "m=audio 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n";
    assert_eq!(text, format!("{stack}{refused}"));
}

#[test]
fn what_holds_for_all_formats_does_not_multiply() {
    let formats: Vec<String> = (0..=255).map(|n| n.to_string()).collect();
    let mut section = format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:0\r\n",
        formats.join(" ")
    );
    for n in &formats {
        section += &format!("a=rtpmap:{n} VP8/90000\r\n");
    }
    for n in 0..1000 {
        section += &format!("a=rtcp-fb:* nack kind{n}{}\r\n", "x".repeat(25));
    }
    let given = offer(&section);
    assert!(given.text.len() < 64 * 1024, "{}", given.text.len());
    assert!(lines(&given, "a=rtcp-fb:").len() > 10);
}

#[test]
fn candidates_are_bounded_and_only_those_of_udp_go_on() {
    let mut attributes = String::new();
    for port in 1000..1100 {
        attributes += &format!("a=candidate:1 1 udp 1 10.0.0.1 {port} typ host\r\n");
        attributes += &format!("a=candidate:1 2 udp 1 10.0.0.1 {port} typ host\r\n");
        attributes +=
            &format!("a=candidate:1 1 tcp 1 10.0.0.1 {port} typ host tcptype passive\r\n");
        attributes += &format!("a=candidate:1 1 udp 1 abc-{port}.local {port} typ host\r\n");
    }
    attributes += "a=candidate:broken\r\na=end-of-candidates\r\na=extmap:broken\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";
    let given = offer(&video(&attributes));
    assert_eq!(
        (given.candidates, given.overflowed, given.malformed),
        (64, 36, 1)
    );
    let candidates = lines(&given, "a=candidate:");
    assert_eq!(candidates.len(), 64);
    assert!(
        candidates
            .iter()
            .all(|line| line.contains(" udp ") && !line.contains(".local"))
    );
    assert_eq!(lines(&given, "a=extmap:").len(), 1);
}

fn whole() -> String {
    format!(
        "{}{}",
        head(),
        video(
            "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack pli\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc-group:FID 1 2\r\na=ssrc:1 cname:x\r\na=msid:a b\r\na=rid:1 send\r\na=simulcast:send 1\r\na=candidate:1 1 udp 2130706431 10.0.0.2 50000 typ host\r\na=candidate:2 1 tcp 1 10.0.0.2 9 typ host tcptype active\r\na=sctp-port:5000\r\n"
        )
    )
}

proptest! {
    /// Whatever becomes of a description, what the stack is given is one that it reads.
    #[test]
    fn mutated_descriptions_are_survived(
        cuts in prop::collection::vec((0_usize..2000, 0_usize..40, "[ -~\r\n]{0,20}"), 1..6),
        answer: bool,
        audio: bool,
    ) {
        let mut text: Vec<char> = whole().chars().collect();
        for (at, length, with) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(description) = Description::parse(&text) {
            let side = if answer { Side::Answer } else { Side::Offer };
            for wanted in [Wanted::Messages, Wanted::Media { video: vec![Codec::H264], audio, receives: answer, sent_profile: None }] {
                if let Ok(given) = normalise(&description, side, &wanted, 64, audio) {
                    let read = rtc::peer_connection::sdp::RTCSessionDescription::offer(given.text.clone());
                    prop_assert!(read.is_ok_and(|read| read.unmarshal().is_ok()), "{}", given.text);
                    let again = Description::parse(&given.text);
                    prop_assert!(again.is_ok(), "{}", given.text);
                    prop_assert!(!given.text.contains(" tcp "));
                    let completed = given.complete(&description, &given.text);
                    prop_assert!(Description::parse(&completed).is_ok(), "{completed}");
                }
            }
        }
    }
}

/// An offer of a browser, answered by a camera that sends High at level 4.
#[test]
fn an_answer_prefers_the_profile_that_is_sent_and_names_its_level() {
    let wanted = Wanted::Media {
        video: vec![Codec::H264],
        audio: false,
        receives: false,
        sent_profile: Some(ProfileLevelId([0x64, 0, 0x28])),
    };
    let format = |payload_type: u8, parameters: &str| {
        format!("a=rtpmap:{payload_type} H264/90000\r\na=fmtp:{payload_type} {parameters}\r\n")
    };
    let mode = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=";
    let section = format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:0\r\na=recvonly\r\n{}{}{}",
        format(96, &format!("{mode}42e01f")),
        format(97, "packetization-mode=1;profile-level-id=4d001f"),
        format(98, &format!("{mode}640032")),
    );
    let offered = read(&format!("{}{section}", head()));
    let given = normalise(&offered, Side::Offer, &wanted, 64, false).unwrap();
    assert_eq!(
        lines(&given, "m="),
        ["m=video 9 UDP/TLS/RTP/SAVPF 98 96 97"]
    );
    // The stack answers with its own parameters.
    let answer = format!(
        "{}{}",
        head(),
        &given.text[given.text.find("m=").unwrap()..]
    );
    let answered = given.complete(&offered, &answer);
    let parameters: Vec<&str> = answered
        .lines()
        .filter(|line| line.starts_with("a=fmtp"))
        .collect();
    assert_eq!(
        parameters,
        [
            format!("a=fmtp:98 {mode}640032"),
            format!("a=fmtp:96 {mode}42e028"),
            // Here the level must not differ from the offered one.
            "a=fmtp:97 packetization-mode=1;profile-level-id=4d001f".to_owned(),
        ]
    );
}
