//! Tests of reading descriptions.

use proptest::prelude::*;

use super::super::h264_profile::ProfileLevelId;
use super::*;

fn parse(rest: &str) -> Description {
    Description::parse(&format!("v=0\r\na=ice-ufrag:x\r\n{rest}")).unwrap()
}

#[test]
fn a_description_without_h264_is_known() {
    let vp8 = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
    let refused = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n";
    let interleaved = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=2\r\n";
    let good = "m=audio 9 X 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 h264/90000\r\n";
    assert_eq!(
        [vp8, refused, interleaved, good].map(|sdp| parse(sdp).usable_video(&[Codec::H264]).len()),
        [0, 0, 0, 1]
    );
    assert_eq!(parse(good).video_payload_types(), [(96, Codec::H264)]);
}

#[test]
fn a_description_with_opus_is_known() {
    let sdp = "m=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96\r\n";
    assert!(parse(sdp).has_opus());
    assert!(!parse(&sdp.replace("audio 9", "audio 0")).has_opus());
}

#[test]
fn a_description_without_data_channels_is_known() {
    let good = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
    let refused = "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n";
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    assert_eq!(
        [good, refused, video].map(|sdp| parse(sdp).has_data_channels()),
        [true, false, false]
    );
}

#[test]
fn the_direction_is_the_sections_or_the_sessions_or_both_ways() {
    let video = "m=video 9 X 96\r\n";
    let all = |sdp: &str| parse(sdp).sections()[0].direction;
    assert_eq!(all(video), Direction::SendRecv);
    assert_eq!(all(&format!("a=sendonly\r\n{video}")), Direction::SendOnly);
    assert_eq!(
        all(&format!("a=sendonly\r\n{video}a=inactive\r\n")),
        Direction::Inactive
    );
    assert!(parse(&format!("a=recvonly\r\n{video}")).sends_nothing());
    assert!(!parse(video).sends_nothing());
    assert!(parse("m=video 0 X 96\r\n").sends_nothing());
    assert!(!parse("").sends_nothing(), "there is nothing to send it in");
}

#[test]
fn line_ends_case_and_white_space_mean_nothing() {
    for end in ["\r\n", "\n", "\r"] {
        let lines = [
            "v=0",
            "A",
            "m=VIDEO  9  UDP/TLS/RTP/SAVPF  96 ",
            "a=RTPMAP:96 h264/90000",
            "a=fmtp:96  Packetization-Mode=1 ; profile-level-id=42C01F;",
            "a=ice-ufrag: abcd ",
            "b=whatever",
            "s=twice",
            "s=twice",
            "",
        ];
        let text = lines.join(end).replace(&format!("A{end}"), "");
        let sdp = Description::parse(&text).unwrap();
        assert_eq!(sdp.ice_ufrag(), "abcd");
        let format = &sdp.sections()[0].codecs()[0];
        assert_eq!(format.packetization_mode(), 1);
        assert_eq!(format.profile(), Some(ProfileLevelId([0x42, 0xc0, 0x1f])));
        assert_eq!(format.codec(), Some(Codec::H264));
    }
}

#[test]
fn sources_that_repair_are_none_of_their_own() {
    let sdp = parse(
        "m=video 9 X 96\r\na=ssrc-group:FID 1 2\r\na=ssrc:1 cname:a\r\na=ssrc:2 cname:a\r\na=ssrc:3 cname:a\r\na=ssrc:1 msid:a b\r\na=ssrc:x\r\n",
    );
    assert_eq!(sdp.sections()[0].sources(), [1, 3]);
}

#[test]
fn a_payload_type_is_looked_for_once_however_often_it_is_named() {
    // As large as a description may be, with nothing in it that could be found.
    let mut text = "v=0\r\na=ice-ufrag:x\r\n".to_owned();
    text += &format!("m=video 9 X{}\r\n", " 7 96 300".repeat(6000));
    text += &"a=x\r\n".repeat(MAX_LINES - 4);
    text += "a=rtpmap:96 VP8/90000\r\n";
    assert!(text.len() > MAX_BYTES - 4096, "{}", text.len());
    let sdp = Description::parse(&text).unwrap();
    let section = &sdp.sections()[0];
    assert_eq!(section.payload_types().collect::<Vec<_>>(), [7, 96]);
    assert_eq!(sdp.video_payload_types(), [(96, Codec::Vp8)]);
}

#[test]
fn what_is_no_description_is_refused_with_its_reason() {
    let error = |text: &str| Description::parse(text).unwrap_err();
    let begin = "v=0\r\na=ice-ufrag:x\r\n";
    assert_eq!(error(""), SdpError::Version);
    assert_eq!(error("garbage"), SdpError::Version);
    assert_eq!(error("v=0\r\ngarbage"), SdpError::Line(2));
    assert_eq!(error(&format!("{begin}m=video\r\n")), SdpError::Section(3));
    assert_eq!(
        error(&format!("{begin}m=video 99999 X 96\r\n")),
        SdpError::Section(3)
    );
    assert_eq!(error("v=0\r\na=ice-ufrag:\r\n"), SdpError::IceUfrag);
    assert_eq!(
        error(&format!(
            "{begin}{}",
            "m=video 9 X 96\r\n".repeat(MAX_SECTIONS + 1)
        )),
        SdpError::Sections
    );
    assert_eq!(
        error(&format!("{begin}{}", "a=x\r\n".repeat(MAX_LINES))),
        SdpError::Lines
    );
    assert_eq!(
        error(&format!("{begin}a={}", "x".repeat(MAX_BYTES))),
        SdpError::Bytes(MAX_BYTES + begin.len() + 2)
    );
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(v=0\r\na=ice-ufrag:x\r\n)?(([a-z]=)?(video|[ -~]{0,12})(\r|\n)?){0,30}") {
        if let Ok(sdp) = Description::parse(&text) {
            let _ = (sdp.video_payload_types(), sdp.has_opus(), sdp.sends_nothing());
            let _: Vec<_> = sdp.sections().iter().map(Section::sources).collect();
            prop_assert_eq!(sdp.as_str(), text);
        }
    }
}
