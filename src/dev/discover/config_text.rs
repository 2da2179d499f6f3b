//! A configuration for the cameras that were found: cameras come in, TOML for `[[cameras]]` goes out, without a password.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use super::camera::Camera;
use super::messages::Profile;
use crate::config::RtspUrl;

/// The longest twin id that is made; names may be longer.
const MAX_ID: usize = 48;

/// Who asks the cameras, as the configuration is to say it.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// The user, if one was named.
    pub(crate) user: Option<String>,
    /// The file with the password, if it is in one.
    pub(crate) password_file: Option<PathBuf>,
}

/// The text of the configuration: a section for each camera, or for each lens of it.
pub(super) fn text(cameras: &[Camera], asker: &Asker) -> String {
    let mut text = "# Cameras that `twinsight discover` found. Add them to the configuration of a node or a bridge.\n".to_owned();
    let mut ids = Ids::of(cameras);
    for camera in cameras {
        let chosen = camera.for_detection();
        let several = chosen.len() > 1;
        text.push('\n');
        note(&mut text, &about(camera));
        for advice in camera.advice() {
            note(&mut text, &advice);
        }
        for n in chosen {
            let stream = &camera.streams[n];
            let Ok(url) = &stream.address else { continue };
            let lens = several
                .then_some(stream.profile.source.as_deref())
                .flatten();
            note(&mut text, &about_stream(&stream.profile));
            let id = ids.next(camera, lens);
            section(&mut text, camera, &id, url, asker);
        }
    }
    text
}

fn section(text: &mut String, camera: &Camera, id: &str, url: &RtspUrl, asker: &Asker) {
    text.push_str("[[cameras]]\n");
    let mut line = |key: &str, value: &str| {
        let value = toml::Value::from(value);
        let _ = writeln!(text, "{key} = {value}");
    };
    line("twin_id", id);
    if let Some(name) = camera.name() {
        line("name", name);
    }
    line("rtsp", &url.to_string());
    let Some(user) = &asker.user else { return };
    line("rtsp_user", user);
    match &asker.password_file {
        Some(file) => line("rtsp_password_file", &file.to_string_lossy()),
        None => text.push_str("# rtsp_password_file = \"…\" # a file with the password\n"),
    }
}

/// A line of comment. What cameras say has no line breaks left in it.
fn note(text: &mut String, line: &str) {
    let _ = writeln!(text, "# {line}");
}

fn about(camera: &Camera) -> String {
    let mut parts = vec![camera.host.to_string()];
    parts.extend(camera.name().map(str::to_owned));
    parts.extend(camera.make().filter(|make| camera.name() != Some(make)));
    parts.extend(camera.scopes.location.clone());
    parts.join(", ")
}

fn about_stream(profile: &Profile) -> String {
    let mut text = format!("{}: {}", profile.name, profile.codec.as_str());
    if let Some((width, height)) = profile.size {
        let _ = write!(text, ", {width}x{height}");
    }
    if let Some(fps) = profile.fps {
        let _ = write!(text, ", {fps} frames a second");
    }
    text
}

/// Twin ids: made of the cameras' names, or where several have the same, of their serial numbers too. They are the same the next
/// time as far as the cameras are.
struct Ids {
    /// Those that more than one camera would have.
    shared: BTreeSet<String>,
    taken: BTreeSet<String>,
}

impl Ids {
    fn of(cameras: &[Camera]) -> Self {
        let mut seen = BTreeSet::new();
        let names = cameras.iter().map(name_of);
        Self {
            shared: names.filter(|name| !seen.insert(name.clone())).collect(),
            taken: BTreeSet::new(),
        }
    }

    fn next(&mut self, camera: &Camera, lens: Option<&str>) -> String {
        let mut id = name_of(camera);
        if self.shared.contains(&id) {
            let own = camera.device.serial.clone();
            let own = own.unwrap_or_else(|| camera.host.to_string());
            id = slug(&format!("{id}-{}", slug(&own)));
        }
        if let Some(lens) = lens {
            id = format!("{id}-{}", slug(lens));
        }
        let mut unique = id.clone();
        let mut n = 1;
        while !self.taken.insert(unique.clone()) {
            n += 1;
            unique = format!("{id}-{n}");
        }
        unique
    }
}

fn name_of(camera: &Camera) -> String {
    let texts = [
        camera.name().map(str::to_owned),
        camera.make(),
        camera.device.serial.clone(),
    ];
    let mut names = texts.into_iter().flatten().map(|text| slug(&text));
    names
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| slug(&format!("camera-{}", camera.host)))
}

/// Small letters and digits of ASCII with hyphens between them, which every configuration, metric and topic takes.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() >= MAX_ID {
            break;
        }
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::camera::Trouble;
    use super::super::camera::tests::camera;
    use super::super::messages::Codec;
    use super::*;
    use crate::config::{Config, Env, SourceConfig};

    fn named(name: &str, serial: Option<&str>) -> Camera {
        let mut camera = camera(&[(Codec::H264, 1920), (Codec::H264, 640)]);
        camera.scopes.name = Some(name.to_owned());
        camera.device.serial = serial.map(str::to_owned);
        camera
    }

    #[test]
    fn ids_are_made_of_names_and_are_unique() {
        let mut two_lenses = named("Yard", None);
        two_lenses.streams[0].profile.source = Some("VideoSource_2".to_owned());
        let cameras = [
            named("Front Door (1)", None),
            named("IPC", Some("5F0/A")),
            named("IPC", Some("5F0/B")),
            named("IPC", None),
            named("ipc", None),
            named("門", Some("Serial 7")),
            two_lenses,
        ];
        let text = text(
            &cameras,
            &Asker {
                user: None,
                password_file: None,
            },
        );
        let ids: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("twin_id = "))
            .collect();
        assert_eq!(
            ids,
            [
                "\"front-door-1\"",
                "\"ipc-5f0-a\"",
                "\"ipc-5f0-b\"",
                "\"ipc-192-168-1-64\"",
                "\"ipc-192-168-1-64-2\"",
                "\"serial-7\"",
                "\"yard-videosource-2\"",
                "\"yard-lens\"",
            ]
        );
        assert_eq!(slug("--a  b--"), "a-b");
        assert!(slug(&"x".repeat(500)).len() <= MAX_ID);
    }

    #[test]
    fn the_configuration_is_one_that_the_node_takes() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password \"of\" cameras");
        std::fs::write(&password, "hush-hush\n").unwrap();
        let mut evil = named("\"]\n[hub]\nurl = \"x\" \\ '''", None);
        evil.scopes.name = evil
            .scopes
            .name
            .map(|name| twinsight_client::hub::text::brief(&name));
        evil.trouble = Some(Trouble::Other("a \"reason\"".to_owned()));
        let cameras = [named("Front", None), evil, camera(&[(Codec::H265, 640)])];
        let asker = Asker {
            user: Some("ad\"min".to_owned()),
            password_file: Some(password),
        };
        let text = text(&cameras, &asker);
        assert!(!text.contains("hush"), "{text}");
        let file = folder.path().join("node.toml");
        std::fs::write(&file, &text).unwrap();
        let env: Env = [("TWINSIGHT_HUB__TWIN_ID", "node")].into_iter().collect();
        let config = Config::load(Some(&file), &env).unwrap();
        assert_eq!(config.cameras.len(), 2, "{text}");
        for camera in &config.cameras {
            let Some(SourceConfig::Rtsp(rtsp)) = &camera.source else {
                panic!("{:?}", camera.source);
            };
            assert_eq!(rtsp.url.to_string(), "rtsp://192.168.1.64/2");
            let credentials = rtsp.credentials.as_ref().unwrap();
            assert_eq!(credentials.user, "ad\"min");
            assert_eq!(credentials.password.expose(), "hush-hush");
        }
        assert!(text.contains("# it has only H.265"), "{text}");
    }

    #[test]
    fn without_a_file_the_line_for_it_is_left_to_fill_in() {
        let asker = Asker {
            user: Some("admin".to_owned()),
            password_file: None,
        };
        let text = text(&[named("Front", None)], &asker);
        assert!(
            text.contains("rtsp_user = \"admin\"\n# rtsp_password_file = "),
            "{text}"
        );
        assert!(
            text.contains("# stream 2: H.264, 640x360, 10 frames a second\n[[cameras]]"),
            "{text}"
        );
    }
}
