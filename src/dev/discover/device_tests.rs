//! Addresses and challenges; whole conversations are in `tests/interop/discover.rs`.

use super::*;

#[test]
fn streams_are_at_the_host_that_answers_and_say_nothing_of_who_asks() {
    let host = IpAddr::from([192, 168, 1, 64]);
    for (text, url, own) in [
        (
            "rtsp://192.168.1.64:554/Streaming/Channels/102?transportmode=unicast&profile=Profile_2",
            "rtsp://192.168.1.64:554/Streaming/Channels/102?transportmode=unicast&profile=Profile_2",
            None,
        ),
        (
            "rtsp://admin:hush@192.168.1.64/live",
            "rtsp://192.168.1.64/live",
            None,
        ),
        (
            "rtsp://10.0.0.5:8554/1",
            "rtsp://192.168.1.64:8554/1",
            Some("10.0.0.5"),
        ),
        ("rtsp://0.0.0.0/1", "rtsp://192.168.1.64/1", Some("0.0.0.0")),
    ] {
        let (found, name) = stream_url(text, host).unwrap();
        assert_eq!(
            (found.to_string().as_str(), name.as_deref()),
            (url, own),
            "{text}"
        );
    }
    for wrong in [
        "http://192.168.1.64/",
        "rtsp:",
        "file:///etc/passwd",
        "live",
        "",
    ] {
        assert_eq!(stream_url(wrong, host), None, "{wrong}");
    }
    let six = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let (url, own) = stream_url("rtsp://[fe80::1]:554/1", six).unwrap();
    assert_eq!(
        (url.to_string().as_str(), own),
        ("rtsp://[fe80::1]:554/1", None)
    );
}

#[test]
fn services_are_asked_at_the_host_that_answers() {
    let web = WebClient::new(None).unwrap();
    let session = Session {
        web: &web,
        credentials: None,
        host: IpAddr::from([192, 168, 1, 64]),
        clock_offset: SignedDuration::ZERO,
        digest: None,
    };
    let device: Url = "http://192.168.1.64:8000/onvif/device_service"
        .parse()
        .unwrap();
    for (text, url) in [
        (
            "http://192.168.1.64:81/onvif/media",
            Some("http://192.168.1.64:81/onvif/media"),
        ),
        (
            "http://10.0.0.5/onvif/media?a=1",
            Some("http://192.168.1.64:8000/onvif/media?a=1"),
        ),
        (
            "https://evil.example/onvif/media",
            Some("http://192.168.1.64:8000/onvif/media"),
        ),
        (
            "http://user:pw@192.168.1.64/m",
            Some("http://192.168.1.64/m"),
        ),
        ("file:///etc/passwd", None),
        ("gopher://192.168.1.64/", None),
        ("", None),
    ] {
        let found = session.service_url(&device, text);
        assert_eq!(found.as_ref().map(Url::as_str), url, "{text}");
    }
}

#[test]
fn digest_is_taken_where_there_is_one_and_basic_never() {
    let headers = |values: &[&str]| -> HeaderMap {
        let values = values
            .iter()
            .map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()));
        values.collect()
    };
    let digest = r#"Digest realm="IPC", nonce="abc", qop="auth", algorithm=MD5"#;
    let basic = r#"Basic realm="IPC""#;
    assert!(matches!(
        challenge(&headers(&[basic, digest])),
        Challenge::Digest(_)
    ));
    assert!(matches!(
        challenge(&headers(&[&format!("{basic}, {digest}")])),
        Challenge::Digest(_)
    ));
    assert!(matches!(challenge(&headers(&[basic])), Challenge::Basic));
    assert!(matches!(
        challenge(&headers(&["", "Bearer", "\"\""])),
        Challenge::None
    ));
    assert!(matches!(challenge(&headers(&[])), Challenge::None));
}
