//! Answers as cameras of several makers give them, in their prefixes and with their oddities.

use super::*;

/// Reads an answer of these elements.
fn read<T>(inner: &str, reader: impl FnOnce(Node<'_, '_>) -> T) -> T {
    let text = format!(
        "<tds:Answer xmlns:tds='http://www.onvif.org/ver10/device/wsdl' xmlns:trt='http://www.onvif.org/ver10/media/wsdl' xmlns:tr2='http://www.onvif.org/ver20/media/wsdl' xmlns:tt='http://www.onvif.org/ver10/schema'>{inner}</tds:Answer>"
    );
    let document = xml::parse(&text).unwrap();
    reader(document.root_element())
}

#[test]
fn questions_have_their_namespaces_and_escape_what_they_repeat() {
    assert_eq!(
        Question::time().body(),
        r#"<GetSystemDateAndTime xmlns="http://www.onvif.org/ver10/device/wsdl"></GetSystemDateAndTime>"#
    );
    let question = Question::stream_uri(Media::Two, "a</ProfileToken><b>");
    assert_eq!(question.answer(), "GetStreamUriResponse");
    let body = question.body();
    let document = xml::parse(&body).unwrap();
    let token = xml::string(document.root_element(), &["ProfileToken"]);
    assert_eq!(token, Some("a</ProfileToken><b>"));
}

#[test]
fn the_time_is_that_of_utc_or_none() {
    let time = |utc: &str| {
        let inner = format!(
            "<tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>{utc}</tds:SystemDateAndTime>"
        );
        read(&inner, read_time)
    };
    let utc = "<tt:UTCDateTime><tt:Time><tt:Hour>7</tt:Hour><tt:Minute>50</tt:Minute><tt:Second>45</tt:Second></tt:Time><tt:Date><tt:Year>2010</tt:Year><tt:Month>9</tt:Month><tt:Day>16</tt:Day></tt:Date></tt:UTCDateTime>";
    assert_eq!(time(utc), Some("2010-09-16T07:50:45Z".parse().unwrap()));
    assert_eq!(time(&utc.replace("UTC", "Local")), None);
    assert_eq!(time(&utc.replace(">9<", ">13<")), None);
    assert_eq!(time(&utc.replace(">45<", ">4500000<")), None);
    assert_eq!(time(""), None);
}

#[test]
fn services_are_found_by_their_namespaces() {
    let service = |namespace: &str, address: &str| {
        format!(
            "<tds:Service><tds:Namespace>{namespace}</tds:Namespace><tds:XAddr>{address}</tds:XAddr><tds:Version><tt:Major>2</tt:Major><tt:Minor>60</tt:Minor></tds:Version></tds:Service>"
        )
    };
    let both = service(Media::Two.namespace(), "http://10.0.0.1/onvif/Media2")
        + &service(
            "http://www.onvif.org/ver10/events/wsdl",
            "http://10.0.0.1/onvif/Events",
        )
        + &service(Media::One.namespace(), " http://10.0.0.1/onvif/Media ");
    let services = read(&both, read_services);
    assert_eq!(
        services.media.as_deref(),
        Some("http://10.0.0.1/onvif/Media")
    );
    assert_eq!(
        services.media2.as_deref(),
        Some("http://10.0.0.1/onvif/Media2")
    );
    let capabilities = "<tds:Capabilities><tt:Device><tt:XAddr>http://10.0.0.1/d</tt:XAddr></tt:Device><tt:Media><tt:XAddr>http://10.0.0.1/m</tt:XAddr></tt:Media></tds:Capabilities>";
    let services = read(capabilities, read_capabilities);
    assert_eq!(services.media.as_deref(), Some("http://10.0.0.1/m"));
    assert_eq!(read("", read_services), Services::default());
}

#[test]
fn what_a_camera_is_may_be_told_in_part() {
    let inner = "<tds:Manufacturer>Dahua</tds:Manufacturer><tds:Model>IPC-HDW2431T</tds:Model><tds:FirmwareVersion/><tds:SerialNumber>5F0\u{7f}1</tds:SerialNumber>";
    let found = read(inner, read_device_information);
    assert_eq!(found.manufacturer.as_deref(), Some("Dahua"));
    assert_eq!(found.firmware, None);
    assert!(!found.serial.unwrap().contains('\u{7f}'));
}

/// Hikvision: names in `tt:Name`, `fixed`, and multicast within the encoder.
const MEDIA_ONE: &str = r#"<trt:Profiles token="Profile_1" fixed="true"><tt:Name>mainStream</tt:Name>
 <tt:VideoSourceConfiguration token="VideoSourceToken"><tt:Name>VideoSourceConfig</tt:Name><tt:UseCount>2</tt:UseCount><tt:SourceToken>VideoSource_1</tt:SourceToken><tt:Bounds x="0" y="0" width="2688" height="1520"/></tt:VideoSourceConfiguration>
 <tt:VideoEncoderConfiguration token="VideoEncoderToken_1"><tt:Name>VideoEncoder_1</tt:Name><tt:UseCount>1</tt:UseCount><tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>2688</tt:Width><tt:Height>1520</tt:Height></tt:Resolution><tt:Quality>3.0</tt:Quality><tt:RateControl><tt:FrameRateLimit>20</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl><tt:H264><tt:GovLength>50</tt:GovLength><tt:H264Profile>Main</tt:H264Profile></tt:H264><tt:SessionTimeout>PT5S</tt:SessionTimeout></tt:VideoEncoderConfiguration></trt:Profiles>
 <trt:Profiles token="jpeg"><tt:Name>jpeg</tt:Name><tt:VideoEncoderConfiguration token="3"><tt:Encoding>JPEG</tt:Encoding><tt:Resolution><tt:Width>704</tt:Width><tt:Height>576</tt:Height></tt:Resolution></tt:VideoEncoderConfiguration></trt:Profiles>
 <trt:Profiles token="sound"><tt:Name>sound</tt:Name></trt:Profiles>
 <trt:Profiles><tt:Name>nameless</tt:Name><tt:VideoEncoderConfiguration><tt:Encoding>H264</tt:Encoding></tt:VideoEncoderConfiguration></trt:Profiles>"#;

/// Axis and newer Dahua: H.265, and numbers as attributes and with fractions.
const MEDIA_TWO: &str = r#"<tr2:Profiles token="profile_1" fixed="false"><tr2:Name>profile_1 h265</tr2:Name><tr2:Configurations><tr2:VideoSource token="0"><tt:Name>0</tt:Name><tt:UseCount>1</tt:UseCount><tt:SourceToken>0</tt:SourceToken></tr2:VideoSource><tr2:VideoEncoder token="e" GovLength="32" Profile="Main" GuaranteedFrameRate="false"><tt:Name>e</tt:Name><tt:UseCount>1</tt:UseCount><tt:Encoding>H265</tt:Encoding><tt:Resolution><tt:Width>1920</tt:Width><tt:Height>1080</tt:Height></tt:Resolution><tt:RateControl ConstantBitRate="false"><tt:FrameRateLimit>12.5</tt:FrameRateLimit><tt:BitrateLimit>2147483647</tt:BitrateLimit></tt:RateControl><tt:Quality>70</tt:Quality></tr2:VideoEncoder></tr2:Configurations></tr2:Profiles>"#;

#[test]
fn profiles_of_the_older_service_are_read() {
    let profiles = read(MEDIA_ONE, |answer| read_profiles(Media::One, answer));
    let expected = Profile {
        token: "Profile_1".to_owned(),
        name: "mainStream".to_owned(),
        source: Some("VideoSource_1".to_owned()),
        codec: Codec::H264,
        size: Some((2688, 1520)),
        fps: Some(20.0),
        gop: Some(50),
        bitrate_kbps: Some(4096),
    };
    assert_eq!(profiles[0], expected);
    assert_eq!(profiles[1].codec, Codec::Other("JPEG".to_owned()));
    assert_eq!((profiles[1].fps, profiles[1].gop), (None, None));
    assert_eq!(profiles.len(), 2);
}

#[test]
fn profiles_of_the_newer_service_are_read() {
    let profiles = read(MEDIA_TWO, |answer| read_profiles(Media::Two, answer));
    assert_eq!(profiles.len(), 1);
    let profile = &profiles[0];
    assert_eq!(profile.codec.as_str(), "H.265");
    assert_eq!((profile.fps, profile.gop), (Some(12.5), Some(32)));
    assert_eq!(profile.size, Some((1920, 1080)));
}

#[test]
fn no_more_profiles_are_taken_than_there_may_be() {
    let many: String = (0..1000)
        .map(|n| MEDIA_ONE.replace("Profile_1", &format!("p{n}")))
        .take(100)
        .collect();
    let profiles = read(&many, |answer| read_profiles(Media::One, answer));
    assert!(profiles.len() <= MAX_PROFILES, "{}", profiles.len());
}

#[test]
fn the_address_of_a_stream_is_read_of_both_services() {
    let one = "<trt:MediaUri><tt:Uri>rtsp://10.0.0.1/live?a=1&amp;b=2</tt:Uri><tt:InvalidAfterConnect>false</tt:InvalidAfterConnect></trt:MediaUri>";
    let read_one = read(one, |answer| {
        read_stream_uri(Media::One, answer).map(str::to_owned)
    });
    assert_eq!(read_one.as_deref(), Some("rtsp://10.0.0.1/live?a=1&b=2"));
    let two = "<tr2:Uri>rtsp://10.0.0.1/2</tr2:Uri>";
    let read_two = read(two, |answer| {
        read_stream_uri(Media::Two, answer).map(str::to_owned)
    });
    assert_eq!(read_two.as_deref(), Some("rtsp://10.0.0.1/2"));
}

#[test]
fn scopes_are_read_one_by_one() {
    let inner = "<tds:Scopes><tt:ScopeDef>Fixed</tt:ScopeDef><tt:ScopeItem>onvif://www.onvif.org/name/A</tt:ScopeItem></tds:Scopes><tds:Scopes><tt:ScopeItem>onvif://www.onvif.org/hardware/B</tt:ScopeItem></tds:Scopes>";
    assert_eq!(
        read(inner, read_scopes),
        "onvif://www.onvif.org/name/A onvif://www.onvif.org/hardware/B"
    );
}
