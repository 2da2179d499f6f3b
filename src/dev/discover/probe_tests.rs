//! Answers as cameras of several makers send them.

use super::*;

/// An answer as gSOAP writes it, which most cameras have inside.
pub(in crate::dev::discover) fn answer(endpoint: &str, addresses: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope" xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><SOAP-ENV:Header><wsa:MessageID>uuid:84ede3de-7dec-11d0-c360-f01234567890</wsa:MessageID><wsa:RelatesTo>uuid:1</wsa:RelatesTo><wsa:To SOAP-ENV:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</wsa:To><wsa:Action SOAP-ENV:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches</wsa:Action></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch><wsa:EndpointReference><wsa:Address>{endpoint}</wsa:Address></wsa:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/hardware/DS-2CD2042WD-I onvif://www.onvif.org/name/HIKVISION%20DS-2CD2042WD-I onvif://www.onvif.org/location/city/hangzhou onvif://www.onvif.org/location/country/china</d:Scopes><d:XAddrs>{addresses}</d:XAddrs><d:MetadataVersion>10</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"#
    )
}

/// The body of an answer with the prefixes and the namespaces of another maker.
fn other_answer(body: &str) -> String {
    format!(
        r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns="http://schemas.xmlsoap.org/ws/2005/04/discovery"><s:Header/><s:Body>{body}</s:Body></s:Envelope>"#
    )
}

fn urls(texts: &[&str]) -> Vec<Url> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_question_is_a_message_of_its_own() {
    let text = probe(u128::MAX, TYPES[0]);
    let document = xml::parse(&text).unwrap();
    let root = document.root();
    assert_eq!(
        xml::string(root, &["Envelope", "Header", "MessageID"]),
        Some("uuid:ffffffff-ffff-4fff-bfff-ffffffffffff")
    );
    let types = xml::find(root, &["Envelope", "Body", "Probe", "Types"]).unwrap();
    assert_eq!(types.text(), Some("dn:NetworkVideoTransmitter"));
    assert_eq!(
        types.lookup_namespace_uri(Some("dn")),
        Some("http://www.onvif.org/ver10/network/wsdl")
    );
    assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
}

#[test]
fn the_usual_answer_says_who_and_where() {
    let address = "http://192.168.1.64/onvif/device_service http://[fe80::1]/onvif/device_service";
    let found = parse(answer("urn:uuid:419a", address).as_bytes()).unwrap();
    let expected = Announced {
        endpoint: Some("urn:uuid:419a".to_owned()),
        addresses: urls(&[
            "http://192.168.1.64/onvif/device_service",
            "http://[fe80::1]/onvif/device_service",
        ]),
        scopes: Scopes {
            name: Some("HIKVISION DS-2CD2042WD-I".to_owned()),
            hardware: Some("DS-2CD2042WD-I".to_owned()),
            location: Some("city/hangzhou, country/china".to_owned()),
        },
    };
    assert_eq!(found, [expected]);
}

#[test]
fn other_prefixes_no_types_and_ends_with_zeros_are_read_too() {
    let text = other_answer(
        r#"<ProbeMatches><ProbeMatch><a:EndpointReference><a:Address>uuid:1</a:Address></a:EndpointReference><Types/>
           <Scopes>
             onvif://www.onvif.org/Profile/Streaming
             onvif://www.onvif.org/name/Front%20door%0a%1b[31m/
             onvif://www.onvif.org/location/
           </Scopes><XAddrs>http://10.0.0.5:8000/onvif/device_service</XAddrs></ProbeMatch></ProbeMatches>"#,
    );
    let found = parse(format!("{text}\0\0\0").as_bytes()).unwrap();
    assert_eq!(
        found[0].addresses,
        urls(&["http://10.0.0.5:8000/onvif/device_service"])
    );
    // What would control the terminal is escaped.
    let name = found[0].scopes.name.as_deref().unwrap();
    assert!(
        name.starts_with("Front door") && !name.contains(['\n', '\u{1b}']),
        "{name:?}"
    );
    assert_eq!(found[0].scopes.location, None);
}

#[test]
fn a_device_outside_of_a_list_and_a_name_with_blanks_are_read_too() {
    // IPyCam 1.3.0 does both.
    let text = other_answer(
        r#"<ProbeMatch><a:EndpointReference><a:Address>urn:uuid:1</a:Address></a:EndpointReference><Types>dn:NetworkVideoTransmitter tds:Device</Types><Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Virtual Camera</Scopes><XAddrs>http://10.0.0.5:8080/onvif/device_service</XAddrs></ProbeMatch>"#,
    );
    let found = parse(text.as_bytes()).unwrap();
    assert_eq!(found[0].scopes.name.as_deref(), Some("Virtual Camera"));
}

#[test]
fn what_is_no_camera_is_left_out_and_what_is_no_answer_is_told() {
    let printer = other_answer(
        r#"<ProbeMatches><ProbeMatch><Types xmlns:p="http://schemas.microsoft.com/windows/2006/08/wdp/print">p:PrintDeviceType</Types><XAddrs>http://10.0.0.9/</XAddrs></ProbeMatch></ProbeMatches>"#,
    );
    for other in [
        printer,
        other_answer("<Hello/>"),
        other_answer("<ProbeMatches/>"),
    ] {
        assert_eq!(parse(other.as_bytes()), Err(NoAnswer::Other));
    }
    for unreadable in [
        "",
        "M-SEARCH * HTTP/1.1",
        "<a/>",
        "<a><b></a>",
        "<s:Envelope/>",
        "<Envelope/>",
    ] {
        let found = parse(unreadable.as_bytes());
        assert!(
            matches!(found, Err(NoAnswer::Unreadable(_))),
            "{unreadable}: {found:?}"
        );
    }
}

#[test]
fn a_device_is_asked_at_the_host_that_answered_and_at_no_other() {
    let from = IpAddr::from([192, 168, 1, 64]);
    for (own, asked) in [
        (
            &["http://192.168.1.64/onvif/device_service"][..],
            "http://192.168.1.64/onvif/device_service",
        ),
        (
            &["https://192.168.1.64/a", "http://192.168.1.64/b"],
            "http://192.168.1.64/b",
        ),
        (
            &["http://10.0.0.1:81/a", "https://192.168.1.64/b"],
            "https://192.168.1.64/b",
        ),
        (&["http://0.0.0.0:8899/a"], "http://192.168.1.64:8899/a"),
        (
            &["http://user:pa55word@camera.local/a"],
            "http://192.168.1.64/a",
        ),
        (&["http://[fe80::1]/a"], "http://192.168.1.64/a"),
    ] {
        assert_eq!(reachable(&urls(own), from).unwrap().as_str(), asked);
    }
    assert_eq!(reachable(&[], from), None);
    let six = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let url = reachable(&urls(&["http://0.0.0.0/a"]), six).unwrap();
    assert_eq!(url.as_str(), "http://[fe80::1]/a");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0_usize..2000, at in 0_usize..2000, byte: u8) {
        let _ = parse(&bytes);
        let mut text = answer("urn:uuid:1", "http://192.168.1.64/").into_bytes();
        let at = at % text.len();
        text[at] = byte;
        text.truncate(cut.max(1));
        let _ = parse(&text);
    }
}
