//! What was found, for people and for programs: cameras come in, lines go out.

use serde_json::{Value, json};
use twinsight_client::hub::text::brief;

use super::camera::{Camera, Stream};
use crate::dev::terminal::{pad, width};

/// The heads of the table's columns.
const HEADS: [&str; 8] = [
    "address",
    "name",
    "camera",
    "stream",
    "codec",
    "size",
    "fps",
    "GOP / kbit/s",
];

/// The longest name in the table, in columns.
const MAX_CELL: usize = 32;

/// A table with a line for each stream, and below it what is to be done.
pub(super) fn lines(cameras: &[Camera]) -> Vec<String> {
    let mut rows = vec![HEADS.map(str::to_owned)];
    for camera in cameras {
        rows.extend(rows_of(camera));
    }
    let widths: [usize; HEADS.len()] = std::array::from_fn(|n| {
        rows.iter()
            .map(|row| width(&row[n]))
            .max()
            .unwrap_or_default()
    });
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| pad(cell, width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    let chosen: Vec<String> = cameras.iter().flat_map(addresses).collect();
    if !chosen.is_empty() {
        lines.push(String::new());
        lines.push("* is right for detection:".to_owned());
        lines.extend(chosen);
    }
    let advice: Vec<String> = cameras
        .iter()
        .flat_map(|camera| {
            let advice = camera.advice().into_iter();
            advice.map(|sentence| format!("{}: {sentence}", camera.host))
        })
        .collect();
    if !advice.is_empty() {
        lines.push(String::new());
        lines.extend(advice);
    }
    lines
}

fn rows_of(camera: &Camera) -> Vec<[String; HEADS.len()]> {
    let mut about = [
        camera.host.to_string(),
        camera.name().map(cell).unwrap_or_default(),
        // Many a camera is called what it is.
        camera
            .make()
            .filter(|make| camera.name() != Some(make))
            .map(|make| cell(&make))
            .unwrap_or_default(),
    ]
    .into_iter();
    let mut next = || about.next().unwrap_or_default();
    let chosen = camera.for_detection();
    if camera.streams.is_empty() {
        let [address, name, make] = [next(), next(), next()];
        let none = || String::new();
        return vec![[address, name, make, none(), none(), none(), none(), none()]];
    }
    let streams = camera.streams.iter().enumerate();
    streams
        .map(|(n, stream)| {
            let profile = &stream.profile;
            let mark = if chosen.contains(&n) { "* " } else { "  " };
            let number = |number: Option<u32>| number.map_or("-".to_owned(), |it| it.to_string());
            [
                next(),
                next(),
                next(),
                format!("{mark}{}", cell(&profile.name)),
                profile.codec.as_str().to_owned(),
                size(stream),
                profile.fps.map_or("-".to_owned(), |fps| fps.to_string()),
                format!("{} / {}", number(profile.gop), number(profile.bitrate_kbps)),
            ]
        })
        .collect()
}

fn cell(text: &str) -> String {
    crate::dev::terminal::cut(text, MAX_CELL)
}

fn size(stream: &Stream) -> String {
    let size = stream.profile.size;
    size.map_or("-".to_owned(), |(width, height)| {
        format!("{width}x{height}")
    })
}

/// The addresses of the streams that are right for detection.
fn addresses(camera: &Camera) -> Vec<String> {
    let chosen = camera.for_detection().into_iter();
    chosen
        .filter_map(|n| camera.streams[n].address.as_ref().ok())
        .map(|url| format!("  {url}"))
        .collect()
}

/// A camera for programs.
pub(super) fn json(camera: &Camera) -> Value {
    let chosen = camera.for_detection();
    let streams: Vec<Value> = camera
        .streams
        .iter()
        .enumerate()
        .map(|(n, stream)| {
            let profile = &stream.profile;
            json!({
                "token": brief(&profile.token),
                "name": profile.name,
                "source": profile.source.as_deref().map(brief),
                "codec": profile.codec.as_str(),
                "width": profile.size.map(|(width, _)| width),
                "height": profile.size.map(|(_, height)| height),
                "fps": profile.fps,
                "gop": profile.gop,
                "bitrateKbps": profile.bitrate_kbps,
                "rtsp": stream.address.as_ref().ok().map(ToString::to_string),
                "forDetection": chosen.contains(&n),
            })
        })
        .collect();
    json!({
        "address": camera.host,
        "deviceService": camera.device_service.as_str(),
        "endpoint": camera.endpoint,
        "name": camera.name(),
        "location": camera.scopes.location,
        "hardware": camera.scopes.hardware,
        "manufacturer": camera.device.manufacturer,
        "model": camera.device.model,
        "firmware": camera.device.firmware,
        "serial": camera.device.serial,
        "clockOffsetSeconds": camera.clock_offset_s,
        "streams": streams,
        "problem": camera.trouble.as_ref().map(super::camera::Trouble::as_str),
        "advice": camera.advice(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::camera::Trouble;
    use super::super::camera::tests::camera;
    use super::super::messages::Codec;
    use super::*;

    #[test]
    fn people_get_a_table_and_what_to_do() {
        let mut first = camera(&[(Codec::H264, 1920), (Codec::H264, 640)]);
        first.scopes.name = Some("Front door".to_owned());
        first.device.model = Some("DS-2CD2042WD-I".to_owned());
        let mut second = camera(&[]);
        second.host = "192.168.1.7".parse().unwrap();
        second.device_service = "http://192.168.1.7:81/".parse().unwrap();
        second.trouble = Some(Trouble::NeedsCredentials);
        let found = lines(&[first, second]);
        assert_eq!(
            found,
            [
                "address       name        camera          stream      codec  size       fps  GOP / kbit/s",
                "192.168.1.64  Front door  DS-2CD2042WD-I    stream 1  H.264  1920x1080  10   10 / 512",
                "                                          * stream 2  H.264  640x360    10   10 / 512",
                "192.168.1.7",
                "",
                "* is right for detection:",
                "  rtsp://192.168.1.64/2",
                "",
                "192.168.1.7: it tells its streams only to users that it knows: run `twinsight discover --address 192.168.1.7:81 --user USER --password-file FILE`",
            ]
        );
    }

    #[test]
    fn programs_get_everything() {
        let mut camera = camera(&[(Codec::H265, 1920), (Codec::H264, 640)]);
        camera.trouble = Some(Trouble::Other("odd".to_owned()));
        let value = json(&camera);
        assert_eq!(value["address"], "192.168.1.64");
        assert_eq!(value["problem"], "other");
        assert_eq!(value["streams"][0]["codec"], "H.265");
        assert_eq!(value["streams"][0]["forDetection"], false);
        assert_eq!(value["streams"][1]["rtsp"], "rtsp://192.168.1.64/2");
        assert_eq!(value["streams"][1]["forDetection"], true);
    }
}
