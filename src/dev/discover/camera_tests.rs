//! Which stream is right for detection, and what is advised.

use url::Url;

use super::*;

/// A camera with streams of these codecs and widths.
pub(in crate::dev::discover) fn camera(streams: &[(Codec, u32)]) -> Camera {
    let host = IpAddr::from([192, 168, 1, 64]);
    let url = Url::parse("http://192.168.1.64/onvif/device_service").unwrap();
    let mut camera = Camera::new(&Found::by_address(host, url));
    camera.streams = streams
        .iter()
        .zip(1..)
        .map(|((codec, width), n)| Stream {
            profile: Profile {
                token: format!("P{n}"),
                name: format!("stream {n}"),
                source: Some("lens".to_owned()),
                codec: codec.clone(),
                size: Some((*width, width * 9 / 16)),
                fps: Some(10.0),
                gop: Some(10),
                bitrate_kbps: Some(512),
            },
            address: Ok(RtspUrl::parse(&format!("rtsp://192.168.1.64/{n}"))
                .unwrap()
                .0),
        })
        .collect();
    camera
}

fn chosen(widths: &[u32]) -> u32 {
    let streams: Vec<(Codec, u32)> = widths.iter().map(|width| (Codec::H264, *width)).collect();
    let camera = camera(&streams);
    let [n] = camera.for_detection()[..] else {
        panic!("one stream of one lens");
    };
    camera.streams[n].profile.size.unwrap().0
}

#[test]
fn the_stream_nearest_to_what_detection_needs_is_chosen() {
    assert_eq!(chosen(&[2688, 640]), 640);
    assert_eq!(chosen(&[2688, 1280, 640]), 640);
    assert_eq!(chosen(&[1920, 704, 1280]), 704);
    assert_eq!(chosen(&[1920, 352]), 1920);
    assert_eq!(chosen(&[3840, 352]), 352);
    assert_eq!(chosen(&[320, 0, 352]), 352);
}

#[test]
fn each_lens_has_its_own() {
    let mut camera = camera(&[
        (Codec::H264, 1920),
        (Codec::H264, 640),
        (Codec::H264, 1920),
        (Codec::H264, 704),
    ]);
    for n in [2, 3] {
        camera.streams[n].profile.source = Some("other lens".to_owned());
    }
    assert_eq!(camera.for_detection(), [1, 3]);
}

#[test]
fn what_is_not_h264_or_has_no_address_is_not_chosen_and_the_setting_is_named() {
    let mut mixed = camera(&[(Codec::H265, 640), (Codec::H264, 1920)]);
    assert_eq!(mixed.for_detection(), [1]);
    mixed.streams[1].address = Err("this stream has no address".to_owned());
    assert_eq!(mixed.for_detection(), [] as [usize; 0]);
    assert_eq!(
        mixed.advice(),
        ["its streams of H.264 cannot be used (this stream has no address)"]
    );
    let other = camera(&[
        (Codec::H265, 1920),
        (Codec::H265, 640),
        (Codec::Other("JPEG".to_owned()), 640),
    ]);
    let [advice] = &other.advice()[..] else {
        panic!("{:?}", other.advice());
    };
    assert!(
        advice.starts_with("it has only H.265 and JPEG, and H.264 is needed: set the encoding"),
        "{advice}"
    );
}

#[test]
fn settings_that_cost_are_advised_against() {
    let mut camera = camera(&[(Codec::H264, 640)]);
    assert_eq!(camera.advice(), [] as [&str; 0]);
    camera.streams[0].profile.gop = Some(50);
    camera.streams[0].profile.size = Some((352, 288));
    camera.calls_itself = Some("10.0.0.5".to_owned());
    let (url, _) =
        RtspUrl::parse("rtsp://192.168.1.64/user=admin&password=tlJwpbo6&channel=1").unwrap();
    camera.streams[0].address = Ok(url);
    let advice = camera.advice();
    assert!(advice[0].starts_with("352x288 is little"), "{advice:?}");
    assert!(
        advice[1].contains("a keyframe every 5.0 s") && advice[1].contains("(GOP) to 10"),
        "{advice:?}"
    );
    assert!(advice[2].contains("it calls itself 10.0.0.5"), "{advice:?}");
    assert!(advice[3].contains("a password in them"), "{advice:?}");
    camera.streams[0].profile.fps = Some(0.0);
    camera.streams[0].profile.size = Some((1920, 1080));
    assert!(camera.advice()[0].starts_with("1920x1080 takes more"));
    camera.trouble = Some(Trouble::NeedsCredentials);
    assert!(
        camera.advice()[0].contains(
            "`twinsight discover --address 192.168.1.64 --user USER --password-file FILE`"
        )
    );
}

#[test]
fn a_maker_is_named_once() {
    let mut camera = camera(&[]);
    assert_eq!(camera.make(), None);
    camera.scopes.hardware = Some("DS-2CD".to_owned());
    assert_eq!(camera.make().as_deref(), Some("DS-2CD"));
    camera.device.manufacturer = Some("Reolink".to_owned());
    camera.device.model = Some("RLC-810A".to_owned());
    assert_eq!(camera.make().as_deref(), Some("Reolink RLC-810A"));
    camera.device.model = Some("REOLINK RLC".to_owned());
    assert_eq!(camera.make().as_deref(), Some("REOLINK RLC"));
}
