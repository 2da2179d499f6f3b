//! `docs/guide/troubleshooting.md` has every sentence that an operator may meet: those of the errors and the
//! warnings of the files below, word for word, with `…` for what differs. And it has no other.

use std::path::Path;

use crate::{path, read};

const PAGE: &str = "docs/guide/troubleshooting.md";

/// Files, in whichever crate, whose errors are about single messages of a peer or the hub: they are logged with a
/// warning that is on the page, and counted.
const ABOUT_SINGLE_MESSAGES: &[&str] = &[
    "src/decode/path.rs",
    "src/h264/bits.rs",
    "src/h264/depacketize.rs",
    "src/h264/sps.rs",
    "src/preview/encoder.rs",
    "src/hub/engine_io.rs",
    "src/hub/socket_io.rs",
    "src/realtime/candidate.rs",
    "src/realtime/normalise.rs",
    "src/realtime/sdp.rs",
    "src/realtime/signal.rs",
    "src/vp8/depacketize.rs",
];

/// Sentences of tests' fakes, of the library's users alone, and those that another one on the page carries.
const NOT_FOR_OPERATORS: &[&str] = &[
    "the fake detector fails as it was told",
    "model …: …",
    "…: …",
    "…",
    "the picture is empty or shorter than its size says (…x…)",
];

#[test]
fn every_sentence_of_the_program_is_on_the_page() {
    let page = one_line(&read(PAGE));
    let mut missing = Vec::new();
    for (file, source) in sources() {
        if ABOUT_SINGLE_MESSAGES.iter().any(|of| file.ends_with(of)) {
            continue;
        }
        for sentence in errors(&source).into_iter().chain(warnings(&source)) {
            if !NOT_FOR_OPERATORS.contains(&sentence.as_str()) && !page.contains(&sentence) {
                missing.push(format!("{file}: {sentence}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "{PAGE} lacks sentences: add each in bold, with `…` for what differs, its cause and its remedy \
         (or its file to ABOUT_SINGLE_MESSAGES):\n{}",
        missing.join("\n")
    );
}

#[test]
fn the_page_has_no_sentence_that_the_program_does_not_say() {
    let page = one_line(&read(PAGE));
    let said: String = sources()
        .iter()
        .map(|(_, source)| literals(source).join("\n") + "\n")
        .collect();
    let gone: Vec<&str> = page
        .split("**")
        .skip(1)
        .step_by(2)
        .filter(|sentence| !said.contains(sentence))
        .collect();
    assert!(
        gone.is_empty(),
        "no source says these any more, take them from {PAGE}:\n{}",
        gone.join("\n")
    );
}

#[test]
fn sentences_are_found_in_sources() {
    let source = r#"
        #[error("{place}: `{key}` is {found}: give {takes}")]
        #[error(
            "line one \
             and {two:?}", path.display()
        )]
        #[error(transparent)]
        tracing::warn!(camera = %id, what = "a field", "it happened (again)");
        tracing::error!("{error}"),
        other("text");
    "#;
    assert_eq!(errors(source), ["…: `…` is …: give …", "line one and …"]);
    assert_eq!(warnings(source), ["it happened (again)", "…"]);
}

/// All sources with their names.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(crate::path("")).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    let mut names = Vec::new();
    walk(&path("src"), &mut names);
    // Each crate beside the node's has its sources in `crates/NAME/src`.
    if let Ok(crates) = std::fs::read_dir(path("crates")) {
        for each in crates {
            walk(&each.unwrap().path().join("src"), &mut names);
        }
    }
    names.sort();
    names
        .into_iter()
        .filter(|name| !name.ends_with("_tests.rs"))
        .map(|name| {
            let text = read(&name);
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            (name, code.to_owned())
        })
        .collect()
}

/// The sentences of `#[error("…")]`.
fn errors(source: &str) -> Vec<String> {
    after(source, "#[error(")
        .filter_map(|rest| literals(enclosed(rest)).into_iter().next())
        .collect()
}

/// The sentences of warnings and errors in the log.
fn warnings(source: &str) -> Vec<String> {
    ["tracing::warn!(", "tracing::error!("]
        .into_iter()
        .flat_map(|start| after(source, start))
        .filter_map(|rest| literals(enclosed(rest)).pop())
        .collect()
}

/// What stands before the parenthesis that closes.
fn enclosed(source: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for (at, c) in source.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text && depth == 0 => return &source[..at],
            ')' if !in_text => depth -= 1,
            _ => {}
        }
    }
    source
}

fn after<'a>(source: &'a str, start: &'static str) -> impl Iterator<Item = &'a str> {
    source
        .match_indices(start)
        .filter(|(at, _)| {
            let line = source[..*at].rsplit('\n').next().unwrap_or_default();
            !line.trim_start().starts_with("//")
        })
        .map(move |(at, _)| &source[at + start.len()..])
}

/// The string literals of a piece of Rust, with `…` for what is put in.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        if c == '/' && chars.peek() == Some(&'/') {
            while chars.next_if(|c| *c != '\n').is_some() {}
        } else if c == '"' && before != '\'' {
            let mut text = String::new();
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => match chars.next() {
                        Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                        Some('n') => text.push(' '),
                        Some(escaped) => text.push(escaped),
                        None => break,
                    },
                    '{' if chars.next_if_eq(&'{').is_some() => text.push('{'),
                    '{' => {
                        while chars.next_if(|c| *c != '}').is_some() {}
                        chars.next();
                        text.push('…');
                    }
                    '}' => {
                        chars.next_if_eq(&'}');
                        text.push('}');
                    }
                    c => text.push(c),
                }
            }
            found.push(one_line(&text));
        }
        before = c;
    }
    found
}

/// Without line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
