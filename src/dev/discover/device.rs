//! One camera, asked by ONVIF: a device that was found comes in, what it is and which streams it has goes out.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Method, Request, Response, StatusCode};
use http_auth::{DigestClient, PasswordParams};
use jiff::{SignedDuration, Timestamp};
use roxmltree::Node;
use url::Url;

use super::camera::{Camera, Stream, Trouble};
use super::found::Found;
use super::messages::{self, Media, Profile, Question, Services};
use super::probe::{Scopes, is_host, set_host};
use super::soap::{self, SoapError};
use super::xml;
use crate::config::{RtspCredentials, RtspUrl};
use crate::web_client::{WebClient, WebError};

/// A camera has this long for each answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// For all of its answers together it has this long, however many profiles it names.
const CAMERA_LIMIT: Duration = Duration::from_secs(60);

/// The most of an answer that is read. Profiles are the longest ones, some kilobytes each.
const MAX_ANSWER_BYTES: usize = 512 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There is none at all.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It is none of ONVIF.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It answers, and too slowly for all that is asked.
    #[error("it has not told all of its streams within {} s", CAMERA_LIMIT.as_secs())]
    Slow,
    /// The camera wants the password in the clear.
    #[error("it wants the password in the clear")]
    BasicOnly,
    /// It says no, or what cannot be read.
    #[error(transparent)]
    Soap(#[from] SoapError),
}

/// A conversation with one camera.
#[derive(Debug)]
struct Session<'a> {
    web: &'a WebClient,
    credentials: Option<&'a RtspCredentials>,
    host: IpAddr,
    /// What is to be added to our time to have the camera's.
    clock_offset: SignedDuration,
    /// Who asks, for cameras that want to be told by HTTP, too.
    digest: Option<DigestClient>,
}

/// Asks a device for all that is told of it.
pub(super) async fn ask(
    web: &WebClient,
    credentials: Option<&RtspCredentials>,
    found: &Found,
) -> Camera {
    let mut camera = Camera::new(found);
    let mut session = Session {
        web,
        credentials,
        host: found.host,
        clock_offset: SignedDuration::ZERO,
        digest: None,
    };
    let asking = session.ask_all(&found.url, &mut camera);
    let asked = tokio::time::timeout(CAMERA_LIMIT, asking).await;
    if let Err(error) = asked.unwrap_or(Err(CallError::Slow)) {
        camera.trouble = Some(match (error, credentials) {
            (CallError::Soap(SoapError::NotAuthorized), None) => Trouble::NeedsCredentials,
            (CallError::Soap(SoapError::NotAuthorized), Some(_)) => Trouble::WrongCredentials,
            (CallError::BasicOnly, _) => Trouble::BasicOnly,
            (CallError::Web(error), _) if !camera.has_told() => {
                Trouble::Unreachable(error.to_string())
            }
            (error, _) => Trouble::Other(error.to_string()),
        });
    }
    camera
}

impl Session<'_> {
    async fn ask_all(&mut self, device: &Url, camera: &mut Camera) -> Result<(), CallError> {
        // Its time is asked first and by nobody in particular, because a digest counts by the camera's clock.
        let who = self.credentials.take();
        let time = self
            .ask(device, &Question::time(), messages::read_time)
            .await;
        self.credentials = who;
        match time {
            Ok(Some(there)) => {
                self.clock_offset = Timestamp::now().duration_until(there);
                camera.clock_offset_s = Some(self.clock_offset.as_secs());
            }
            Err(CallError::Web(error)) => return Err(error.into()),
            // A camera that does not tell its time is believed to have ours.
            Ok(None) | Err(_) => {}
        }
        let services = self.services(device).await?;
        let question = Question::device_information();
        let information = self
            .ask(device, &question, messages::read_device_information)
            .await;
        match information {
            Ok(information) => camera.device = information,
            // Another attempt with a wrong password might lock the account. Without one nothing is lost by asking on.
            Err(error) if error.is_final() && self.credentials.is_some() => return Err(error),
            Err(_) => {}
        }
        if camera.scopes == Scopes::default() {
            // A camera whose address was given has not told its name yet.
            let asked = self
                .ask(device, &Question::scopes(), messages::read_scopes)
                .await;
            camera.scopes = Scopes::parse(&asked.unwrap_or_default());
        }
        let (media, url, profiles) = self.profiles(device, &services).await?;
        for profile in profiles {
            let stream = self.stream(media, &url, profile, camera).await?;
            camera.streams.push(stream);
        }
        Ok(())
    }

    /// Where the services for streams are. Cameras that know no `GetServices` know `GetCapabilities`.
    async fn services(&mut self, device: &Url) -> Result<Services, CallError> {
        let asked = self
            .ask(device, &Question::services(), messages::read_services)
            .await;
        match asked {
            Ok(services) if services != Services::default() => return Ok(services),
            Err(error) if error.is_final() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        self.ask(
            device,
            &Question::capabilities(),
            messages::read_capabilities,
        )
        .await
    }

    /// The profiles of the newer service, which alone tells of H.265, or else of the older one; with the address to ask more at.
    async fn profiles(
        &mut self,
        device: &Url,
        services: &Services,
    ) -> Result<(Media, Url, Vec<Profile>), CallError> {
        let mut last =
            CallError::Soap(SoapError::Fault("it has no service for streams".to_owned()));
        for (media, address) in [
            (Media::Two, &services.media2),
            (Media::One, &services.media),
        ] {
            let Some(address) = address else { continue };
            let Some(url) = self.service_url(device, address) else {
                let reason = "the address of its service for streams is none of the web";
                last = SoapError::Unreadable(reason.to_owned()).into();
                continue;
            };
            let read = |answer: Node<'_, '_>| messages::read_profiles(media, answer);
            match self.ask(&url, &Question::profiles(media), read).await {
                Ok(profiles) if !profiles.is_empty() => return Ok((media, url, profiles)),
                Ok(_) => {
                    let reason = "it has no profile with video".to_owned();
                    last = SoapError::Fault(reason).into();
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A profile with its address. That of one profile may be missing without harm to the others.
    async fn stream(
        &mut self,
        media: Media,
        url: &Url,
        profile: Profile,
        camera: &mut Camera,
    ) -> Result<Stream, CallError> {
        let question = Question::stream_uri(media, &profile.token);
        let read =
            |answer: Node<'_, '_>| messages::read_stream_uri(media, answer).map(str::to_owned);
        let address = match self.ask(url, &question, read).await {
            Ok(Some(text)) => stream_url(&text, self.host)
                .ok_or_else(|| "the address of this stream is none of RTSP".to_owned()),
            Ok(None) => Err("this stream has no address".to_owned()),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        let address = address.map(|(address, own)| {
            camera.calls_itself = own.or(camera.calls_itself.take());
            address
        });
        Ok(Stream { profile, address })
    }

    /// The address of a service, at the host that answers whatever the camera says. If it says another one, there is a router
    /// between, and the port of the first address that worked is more likely to be right than the one that it says.
    fn service_url(&self, device: &Url, text: &str) -> Option<Url> {
        let mut url = Url::parse(text).ok()?;
        if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
            return None;
        }
        if is_host(&url, self.host) {
            set_host(&mut url, self.host);
            return Some(url);
        }
        let mut moved = device.clone();
        moved.set_path(url.path());
        moved.set_query(url.query());
        Some(moved)
    }

    /// Asks a question, and reads the element that answers it.
    async fn ask<T>(
        &mut self,
        url: &Url,
        question: &Question,
        read: impl FnOnce(Node<'_, '_>) -> T,
    ) -> Result<T, CallError> {
        let mut answer = self.send(url, question).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.credentials.is_some() {
            match challenge(answer.headers()) {
                Challenge::Digest(digest) => {
                    self.digest = Some(*digest);
                    answer = self.send(url, question).await?;
                }
                Challenge::Basic => return Err(CallError::BasicOnly),
                Challenge::None => {}
            }
        }
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(SoapError::NotAuthorized.into());
        }
        let text = xml::text(answer.body());
        // Faults come with any status, so the body is looked at first.
        let document = xml::parse(&text).map_err(|reason| match status.is_success() {
            true => SoapError::Unreadable(reason).into(),
            false => CallError::Status(status),
        })?;
        Ok(read(soap::answer(&document, &question.answer())?))
    }

    async fn send(&mut self, url: &Url, question: &Question) -> Result<Response<Bytes>, CallError> {
        let now = Timestamp::now();
        let there = now.checked_add(self.clock_offset).unwrap_or(now);
        let body = question.body();
        let body = soap::envelope(&body, self.credentials, rand::random(), there);
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.as_str().parse().map_err(|_| WebError::Address)?;
        let content_type = format!(
            "application/soap+xml; charset=utf-8; action=\"{}/{}\"",
            question.namespace, question.name
        );
        let content_type = HeaderValue::try_from(content_type)
            .expect("the names of questions are ASCII, because they are written in the source");
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        if let Some(value) = self.authorization(url, request.body()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(self
            .web
            .send(request, ANSWER_LIMIT, MAX_ANSWER_BYTES)
            .await?)
    }

    /// Who asks, by a digest as well.
    fn authorization(&mut self, url: &Url, body: &[u8]) -> Option<HeaderValue> {
        let (digest, credentials) = (self.digest.as_mut()?, self.credentials?);
        let uri = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let answer = digest.respond(&PasswordParams {
            username: &credentials.user,
            password: credentials.password.expose(),
            uri: &uri,
            method: "POST",
            body: Some(body),
        });
        let mut value = HeaderValue::try_from(answer.ok()?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl CallError {
    /// True where nothing that is asked afterwards would be answered, or where more attempts might do harm.
    fn is_final(&self) -> bool {
        match self {
            Self::Web(_) | Self::Slow | Self::BasicOnly => true,
            Self::Soap(error) => *error == SoapError::NotAuthorized,
            Self::Status(_) => false,
        }
    }
}

/// How a camera wants to be told by HTTP who asks.
enum Challenge {
    Digest(Box<DigestClient>),
    /// Only by the password in the clear, which is not done.
    Basic,
    None,
}

fn challenge(headers: &HeaderMap) -> Challenge {
    let mut is_basic = false;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(value) = value.to_str() else { continue };
        for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
            if let Ok(digest) = DigestClient::try_from(&challenge) {
                return Challenge::Digest(Box::new(digest));
            }
            is_basic |= challenge.scheme.eq_ignore_ascii_case("basic");
        }
    }
    match is_basic {
        true => Challenge::Basic,
        false => Challenge::None,
    }
}

/// The address of a stream at the host that answers, and what the camera calls its own host if that is another one. A user and a
/// password in it are left out.
fn stream_url(text: &str, host: IpAddr) -> Option<(RtspUrl, Option<String>)> {
    let mut url = Url::parse(text).ok()?;
    let own = url.host_str()?.to_owned();
    let is_moved = !is_host(&url, host);
    if url.scheme() != "rtsp" {
        return None;
    }
    set_host(&mut url, host);
    let (url, _) = RtspUrl::parse(url.as_str())?;
    Some((url, is_moved.then_some(own)))
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
