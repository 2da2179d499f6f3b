//! What others wrote, on its way into our sentences: a hub's words, a URL, a certificate's names. They come in
//! at any length; a line of bounded length without secrets and control characters goes out.

use std::borrow::Cow;

use crate::secret::Secret;

/// The longest text of others that is repeated, in characters.
const MAX_CHARS: usize = 200;

/// So much of a text is looked at: what follows is cut in any case.
const MAX_BYTES: usize = 16 << 10;

/// A shorter text is no secret, and masking it would tell where it is.
const MIN_SECRET_BYTES: usize = 4;

/// Stands for what is not shown.
const MASK: &str = "***";

/// A text as it may stand in a sentence: 200 characters at most, control characters escaped.
pub fn brief(text: &str) -> String {
    let mut shown = String::new();
    let mut room = MAX_CHARS;
    for c in text.chars() {
        let escaped = is_control(c).then(|| escape(c));
        let needs = escaped.as_ref().map_or(1, String::len);
        if needs > room {
            shown.push('…');
            break;
        }
        room -= needs;
        match escaped {
            Some(escaped) => shown.push_str(&escaped),
            None => shown.push(c),
        }
    }
    shown
}

/// A text as it may stand on a terminal, at any length: control characters are escaped.
pub fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_control(c) {
            true => shown += &escape(c),
            false => shown.push(c),
        }
    }
    shown
}

/// As [`brief`], with a secret left out wherever the text repeats it, in any case.
pub fn brief_without(text: &str, secret: Option<&Secret>) -> String {
    match secret {
        Some(secret) => brief(&masked(text, secret.expose())),
        None => brief(text),
    }
}

/// A URL without the user, the password and the query in it; anything else is taken for one, too.
pub fn redacted_url(url: &str) -> String {
    let is_scheme =
        |text: &str| text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        _ => (String::new(), url),
    };
    // A password may hold any of the marks that end an authority, so the last `@` counts.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (rest, query) = match rest.split_once(['?', '#']) {
        Some((rest, _)) => (rest, "?***"),
        None => (rest, ""),
    };
    brief(&format!("{scheme}{user}{rest}{query}"))
}

fn masked<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    if secret.len() < MIN_SECRET_BYTES {
        return Cow::Borrowed(text);
    }
    let looked_at = &text[..text.floor_char_boundary(MAX_BYTES + secret.len())];
    // Lower case in ASCII keeps every byte's place.
    let (lower, secret) = (looked_at.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut shown = String::new();
    let mut from = 0;
    while let Some(found) = lower[from..].find(&secret) {
        shown.push_str(&looked_at[from..from + found]);
        shown.push_str(MASK);
        from += found + secret.len();
    }
    // The beginning of a secret at the cut is none that was found.
    let end = if looked_at.len() < text.len() {
        looked_at.floor_char_boundary(looked_at.len() - secret.len())
    } else {
        looked_at.len()
    };
    shown.push_str(looked_at.get(from..end).unwrap_or_default());
    Cow::Owned(shown)
}

/// Control characters, and those that turn the direction of what follows or break its line.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escape(c: char) -> String {
    c.escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_one_short_line() {
        assert_eq!(brief("try later"), "try later");
        assert_eq!(brief("a\nb\u{1b}[31m\u{202e}c"), r"a\nb\u{1b}[31m\u{202e}c");
        assert_eq!(
            one_line("a\nb\u{1b}[31m\u{202e}c"),
            r"a\nb\u{1b}[31m\u{202e}c"
        );
        let long = brief(&"é".repeat(900_000));
        assert_eq!(long, "é".repeat(200) + "…");
    }

    #[test]
    fn a_secret_is_not_repeated_in_any_case_or_number() {
        let key = Secret::new("Key-12345");
        let brief = |text: &str| brief_without(text, Some(&key));
        assert_eq!(brief("the key Key-12345 is wrong"), "the key *** is wrong");
        assert_eq!(brief("KEY-12345key-12345"), "******");
        assert_eq!(brief("Key-1234"), "Key-1234");
        let many = "Key-12345".repeat(10_000);
        assert!(
            !brief(&many).to_lowercase().contains("key"),
            "{}",
            brief(&many)
        );
        assert_eq!(brief_without("keys", Some(&Secret::new("key"))), "keys");
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        assert_eq!(redacted_url("http://h:1/x"), "http://h:1/x");
        assert_eq!(
            redacted_url("http://u:p@h:1/x?t=s#f"),
            "http://***@h:1/x?***"
        );
        assert_eq!(redacted_url("http://u:p@ss/w?rd#@h"), "http://***@h");
        assert_eq!(redacted_url("u:p@h"), "***@h");
        assert_eq!(redacted_url("token?://h?key=k"), "token?***");
    }

    proptest! {
        #[test]
        fn no_text_shows_a_secret_or_a_control_character(
            before in any::<String>(),
            key in "[a-zA-Z0-9]{4,40}",
            after in any::<String>(),
            times in 1_usize..400,
        ) {
            let text = format!("{before}{}{after}", key.repeat(times));
            let shown = brief_without(&text, Some(&Secret::new(key.as_str())));
            prop_assert!(shown.chars().count() <= MAX_CHARS + 1);
            prop_assert!(!shown.chars().any(is_control));
            prop_assert!(!shown.contains(&key), "{shown}");
        }

        #[test]
        fn no_url_shows_its_password(user in "[a-z]{0,5}", password in "[!-~]{4,20}", path in "(/[a-z]{0,5})?") {
            let url = format!("http://{user}:{password}@host:1{path}");
            let shown = redacted_url(&url);
            prop_assert_eq!(shown, format!("http://***@host:1{path}"));
        }
    }
}
