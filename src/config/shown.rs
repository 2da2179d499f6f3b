//! What an error's sentence repeats of a text that somebody gave. The text comes in, the part of it that may be shown goes
//! out: cut, with control characters as escapes, and without the credentials of an address.

use super::source::without_passwords;

/// What a sentence repeats of this text.
pub(crate) fn shown(text: &str) -> String {
    const MOST_CHARS: usize = 100;
    const MOST_BYTES: usize = 160;
    // A long text is cut anyway, so only its beginning is looked at.
    let beginning: String = text.chars().take(4 * MOST_CHARS).collect();
    let mut shown = String::new();
    let mut chars = 0;
    for c in without_passwords(&without_credentials(&beginning)).chars() {
        let kept = shown.len();
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
        chars += 1;
        if chars > MOST_CHARS || shown.len() > MOST_BYTES {
            shown.truncate(kept);
            shown.push('…');
            return shown;
        }
    }
    shown
}

/// Takes out what stands in front of the `@` of an address, with or without its scheme, since that may be a password.
pub(super) fn without_credentials(text: &str) -> String {
    let Some(at) = text.rfind('@') else {
        // A long text may have been cut before its `@`.
        return match text.find("://") {
            Some(scheme) if text.chars().count() >= 400 => format!("{}://***", &text[..scheme]),
            _ => text.to_owned(),
        };
    };
    let before = &text[..at];
    let from = match before.find("://") {
        Some(scheme) => scheme + 3,
        // The blank before the address may have several bytes.
        None => before
            .char_indices()
            .rev()
            .find(|(_, c)| c.is_whitespace() || *c == '"' || *c == '\'')
            .map_or(0, |(at, c)| at + c.len_utf8()),
    };
    if before.contains("://") || before[from..].contains(':') {
        format!("{}***{}", &before[..from], &text[at..])
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_cut_and_cannot_forge_a_line() {
        assert_eq!(shown("plain \"text\""), "plain \"text\"");
        assert_eq!(shown("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        let long = shown(&"x".repeat(900_000));
        assert_eq!(long.chars().count(), 101);
        assert!(long.ends_with('…'));
        assert!(shown(&"\u{202e}".repeat(1000)).len() < 200);
    }

    #[test]
    fn credentials_are_not_shown() {
        let long = format!("rtsp://admin:{}@10.0.0.1/", "hush".repeat(1000));
        for text in [
            "rtsp://admin:hush@10.0.0.1/stream",
            "\"https://admin:hu/sh@hub.example\"",
            "https://hush@hub.example",
            "admin:hush@10.0.0.1",
            "\"admin:hush@10.0.0.1\"",
            "rtsp://admin:hush@and@10.0.0.1",
            long.as_str(),
        ] {
            let shown = shown(text);
            assert!(
                !shown.contains("hu") || shown.contains("hub.example"),
                "{shown}"
            );
            assert!(!shown.contains("admin"), "{shown}");
        }
        assert_eq!(shown("camera@home"), "camera@home");
        assert_eq!(
            shown("http://cam/user=admin&password=hush"),
            "http://cam/user=admin&password=***"
        );
    }

    #[test]
    fn a_blank_of_several_bytes_is_a_blank_like_any_other() {
        for blank in ['\u{85}', '\u{a0}', '\u{2003}', '\u{3000}'] {
            for text in [
                format!("the camera{blank}admin:hush@10.0.0.1"),
                format!("{blank}admin:hush@10.0.0.1"),
                format!("{blank}rtsp://admin:hush@10.0.0.1"),
                format!("admin:hush{blank}@10.0.0.1"),
                format!("{blank}@"),
                format!("@{blank}"),
            ] {
                let shown = shown(&text);
                // What stands in front of a blank is no password of this address.
                let secret = !text.contains(&format!("{blank}@"));
                assert!(!secret || !shown.contains("hush"), "{text:?}: {shown}");
            }
        }
        let text = "the camera\u{3000}admin:hush@10.0.0.1";
        assert_eq!(
            shown(text),
            "the camera\u{3000}***@10.0.0.1".replace('\u{3000}', "\\u{3000}")
        );
    }
}
