//! The files of the dashboard. They are part of the program, so that a node that is cut off from the world shows it too. A
//! browser keeps them and asks whether they are still the same.

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::answer;

/// A file of the dashboard.
#[derive(Debug)]
struct Asset {
    name: &'static str,
    bytes: &'static [u8],
    gzip: Bytes,
    /// The tags of the file as it is, and compressed: they are not the same bytes (RFC 9110, section 8.8.3.3).
    etags: [HeaderValue; 2],
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("dashboard/", $name)).as_slice())),+]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = assets![
        "api.js",
        "camera.js",
        "canvas.js",
        "closed.html",
        "dom.js",
        "draw.js",
        "edit.js",
        "editor.js",
        "events.js",
        "format.js",
        "geometry.js",
        "health.js",
        "icon.svg",
        "index.html",
        "layers.js",
        "ledger.js",
        "live.js",
        "log.js",
        "login.html",
        "logview.js",
        "main.js",
        "node.js",
        "overlay.js",
        "overview.js",
        "pages.css",
        "pair.js",
        "palette.js",
        "reasons.js",
        "saving.js",
        "scene.js",
        "settings.js",
        "sight.js",
        "spark.js",
        "stage.css",
        "stage.js",
        "style.css",
        "tile.js",
        "trackbook.js",
        "tracklist.js",
        "trackwords.js",
    ];
    files.into_iter().map(Asset::new).collect()
});

impl Asset {
    fn new((name, bytes): (&'static str, &'static [u8])) -> Self {
        let hash: String = Sha256::digest(bytes)[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            name,
            bytes,
            gzip: answer::gzip(bytes),
            etags: ["", "-gzip"].map(|coding| {
                HeaderValue::try_from(format!("\"{hash}{coding}\""))
                    .expect("letters and digits in quotes may be in a header")
            }),
        }
    }

    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let takes_gzip = answer::takes_gzip(asked);
        let etag = &self.etags[usize::from(takes_gzip)];
        let is_known = etag.to_str().is_ok_and(|etag| answer::knows(asked, etag));
        let mut answer = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip {
            let mut answer = Body::from(self.gzip.clone()).into_response();
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        } else {
            Body::from(self.bytes).into_response()
        };
        let headers = answer.headers_mut();
        let content_type = HeaderValue::from_static(self.content_type());
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ETAG, etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }
}

/// The page itself.
pub(super) async fn index(asked: HeaderMap) -> Response {
    file("index.html", &asked)
}

/// One of its files.
pub(super) async fn asset(name: Result<Path<String>, PathRejection>, asked: HeaderMap) -> Response {
    // A name that is no UTF-8 text is none of ours.
    file(name.as_ref().map_or("", |Path(name)| name), &asked)
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => asset.answer(asked),
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

/// The page that asks for the token, with a sentence above it. The sentence is one of ours, and no text of a request.
pub(super) fn login_page(status: StatusCode, sentence: &'static str) -> Response {
    page_with("login.html", status, sentence)
}

/// The page for those who are not served, with the sentence that says why. It is one of ours too.
pub(super) fn closed_page(sentence: &'static str) -> Response {
    page_with("closed.html", StatusCode::FORBIDDEN, sentence)
}

fn page_with(name: &str, status: StatusCode, sentence: &'static str) -> Response {
    let page = ASSETS.iter().find(|asset| asset.name == name);
    let page = page.map_or("", |page| std::str::from_utf8(page.bytes).unwrap_or(""));
    let page = page.replace("{{message}}", sentence);
    let content_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, content_type, page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_dashboard_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/dashboard");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut here: Vec<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        there.sort();
        here.sort();
        assert_eq!(there, here);
    }

    #[test]
    fn a_browser_that_has_the_file_does_not_get_it_again() {
        let first = file("index.html", &HeaderMap::new());
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(
            file("index.html", &asked).status(),
            StatusCode::NOT_MODIFIED
        );
        asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(file("index.html", &asked).status(), StatusCode::OK);
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let compressed = file("index.html", &asked);
        assert_eq!(compressed.status(), StatusCode::OK, "these are other bytes");
        asked.insert(
            header::IF_NONE_MATCH,
            compressed.headers()[header::ETAG].clone(),
        );
        assert_eq!(
            file("index.html", &asked).status(),
            StatusCode::NOT_MODIFIED
        );
    }
}
