//! Links between documents: each names a file that is there and a heading that it has, and every page under `docs/` can be
//! found from its index. Files, functions and fields of the code that a page names in backticks are there too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::path;

/// Pages beside those under `docs/`.
const OTHERS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "deploy/README.md",
    "media/README.md",
    "models/README.md",
    "tests/data/README.md",
];

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(path(&page)).unwrap();
        for link in links(&text) {
            seen += 1;
            if let Err(why) = follow(&path(&page), &link) {
                broken.push(format!("{page}: ({link}): {why}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links are broken:\n{}",
        broken.join("\n")
    );
    assert!(seen > 100, "the links are not found: {seen}");
}

#[test]
fn the_index_links_every_document() {
    let index = std::fs::read_to_string(path("docs/index.md")).unwrap();
    let linked: BTreeSet<String> = links(&index).into_iter().collect();
    let missing: Vec<String> = files(Path::new("docs"))
        .into_iter()
        .map(|name| name.trim_start_matches("docs/").to_owned())
        .filter(|name| name.ends_with(".md") || name.ends_with(".json"))
        .filter(|name| name != "index.md" && !linked.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/index.md does not link {missing:?}"
    );
}

#[test]
fn pictures_of_the_documents_are_shown_somewhere() {
    let shown: BTreeSet<PathBuf> = pages()
        .iter()
        .flat_map(|page| {
            let text = std::fs::read_to_string(path(page)).unwrap();
            let folder = path(page).parent().unwrap().to_owned();
            links(&text)
                .into_iter()
                .map(move |link| plain(&folder.join(link)))
        })
        .collect();
    for name in files(Path::new("docs/images")) {
        assert!(shown.contains(&path(&name)), "no document shows {name}");
    }
}

#[test]
fn a_broken_link_is_found() {
    let page = path("README.md");
    assert_eq!(follow(&page, "docs/guide/install.md"), Ok(()));
    assert_eq!(follow(&page, "docs/guide/install.md#from-a-clone"), Ok(()));
    for link in [
        "docs/guide/instal.md",
        "docs/guide/install.md#from-a-clown",
        "#no-such-heading",
        "Cargo.toml#heading",
    ] {
        assert!(follow(&page, link).is_err(), "{link}");
    }
    let text = "[a](b.md) `[code](c.md)` ![d](e.png \"title\") <https://x>\n```\n[f](g.md)\n```\n[h](i.md#j)";
    assert_eq!(links(text), ["b.md", "e.png", "i.md#j"]);
    let page =
        "# One `two` three\n## A, B & C\n## Same\n## Same\n```\n# no heading\n```\n### [x](y.md) z";
    let anchors = ["one-two-three", "a-b--c", "same", "same-1", "x-z"];
    assert_eq!(headings(page), anchors.map(str::to_owned).into());
}

#[test]
fn files_and_functions_that_documents_name_are_there() {
    let code = Code::read();
    let mut missing = Vec::new();
    let mut seen = 0;
    // The changelog names what there was at the time.
    for page in pages().iter().filter(|page| *page != "CHANGELOG.md") {
        let text = std::fs::read_to_string(path(page)).unwrap();
        for word in code_words(&text) {
            let is_there = if is_source(&word) {
                code.has_file(&word)
            } else if let Some((owner, function)) = member(&word) {
                code.has_member(owner, function)
            } else {
                continue;
            };
            seen += 1;
            if !is_there {
                missing.push(format!("{page}: `{word}`"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "documents name what is not in the code:\n{}",
        missing.join("\n")
    );
    assert!(seen > 300, "the names are not found: {seen}");
}

#[test]
fn a_file_or_a_function_that_is_not_there_is_found() {
    let code = Code::read();
    for there in [
        "src/node/mod.rs",
        "node/mod.rs",
        "hub/session.rs",
        "decode/path.rs",
        "session.rs",
    ] {
        assert!(is_source(there) && code.has_file(there), "{there}");
    }
    for gone in ["src/decode/path.rs", "hub/path.rs", "no_such_file.rs"] {
        assert!(is_source(gone) && !code.has_file(gone), "{gone}");
    }
    for no_file in ["tests/*/main.rs", "cat main.rs", ".rs"] {
        assert!(!is_source(no_file), "{no_file}");
    }
    assert_eq!(member("ReceivePath::step"), Some(("ReceivePath", "step")));
    for no_method in ["HubError::Payload", "std::thread::spawn", "A::b(c)", "step"] {
        assert_eq!(member(no_method), None, "{no_method}");
    }
    assert!(code.has_member("ReceivePath", "step"));
    assert!(code.has_member("DecodeConfig", "nack_interval"));
    assert!(!code.has_member("ReceivePath", "stop_for_ever"));
    assert!(!code.has_member("Reorder", "keyframe_request"));
    let page = "`a` and `b c`\n```\n`d`\n```\n[`e`](f.md)";
    assert_eq!(code_words(page), ["a", "b c", "e"]);
}

/// Follows a relative link from a page; those to other hosts are not looked at.
fn follow(page: &Path, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (link, None),
    };
    let target = match file {
        "" => page.to_owned(),
        file => plain(&page.parent().unwrap().join(file)),
    };
    if !target.starts_with(path("")) {
        return Err("it leads out of the repository".to_owned());
    }
    if !target.exists() {
        return Err("there is no such file".to_owned());
    }
    let Some(anchor) = anchor else {
        return Ok(());
    };
    if target.extension().is_none_or(|end| end != "md") {
        return Err("only pages have headings".to_owned());
    }
    let text = std::fs::read_to_string(&target).map_err(|error| error.to_string())?;
    if headings(&text).contains(anchor) {
        Ok(())
    } else {
        Err(format!("the page has no heading `#{anchor}`"))
    }
}

/// Every page, by its path in the repository.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = OTHERS.iter().map(|&name| name.to_owned()).collect();
    let documents = files(Path::new("docs")).into_iter();
    pages.extend(documents.filter(|name| name.ends_with(".md")));
    if path("crates").exists() {
        let crates = files(Path::new("crates")).into_iter();
        pages.extend(crates.filter(|name| name.ends_with("/README.md")));
    }
    pages
}

/// The files of a folder and its subfolders, by their paths in the repository.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path("").join(folder)).unwrap() {
        let inner = folder.join(entry.unwrap().file_name());
        if path("").join(&inner).is_dir() {
            found.extend(files(&inner));
        } else {
            found.push(inner.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// The Rust files of the repository.
struct Code {
    /// Their paths in the repository.
    files: BTreeSet<String>,
    texts: Vec<String>,
}

impl Code {
    fn read() -> Self {
        let folders = ["benches", "crates", "examples", "src", "tests"];
        let files: BTreeSet<String> = folders
            .iter()
            .flat_map(|folder| files(Path::new(folder)))
            .filter(|name| name.ends_with(".rs"))
            .collect();
        let texts = files
            .iter()
            .map(|name| std::fs::read_to_string(path(name)).unwrap())
            .collect();
        Self { files, texts }
    }

    /// A name with a folder is a path from the root, or from the `src/` of a crate. A name alone is that of any file.
    fn has_file(&self, name: &str) -> bool {
        let of_a_crate = format!("/src/{name}");
        let of_any_folder = format!("/{name}");
        self.files.iter().any(|file| {
            if name.contains('/') {
                file == name
                    || file.strip_prefix("src/") == Some(name)
                    || (file.starts_with("crates/") && file.ends_with(&of_a_crate))
            } else {
                file.ends_with(&of_any_folder)
            }
        })
    }

    /// True if there is a file with the function, or the public field, in which the type or trait is defined or has an `impl`.
    fn has_member(&self, owner: &str, member: &str) -> bool {
        let keywords = ["impl", "trait", "struct", "enum", "for"];
        self.texts.iter().any(|text| {
            let is_defined = [
                format!("fn {member}("),
                format!("fn {member}<"),
                format!("pub {member}: "),
            ]
            .iter()
            .any(|definition| text.contains(definition));
            is_defined
                && text.lines().any(|line| {
                    let words =
                        line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
                    let words: Vec<&str> = words.collect();
                    words.contains(&owner) && words.iter().any(|word| keywords.contains(word))
                })
        })
    }
}

/// Whether a word in backticks is the name of a Rust file.
fn is_source(word: &str) -> bool {
    word.strip_suffix(".rs").is_some_and(|stem| {
        !stem.is_empty()
            && stem
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-/.".contains(letter))
    })
}

/// The type and the function or field of a word such as `Type::function`.
fn member(word: &str) -> Option<(&str, &str)> {
    let (owner, function) = word.split_once("::")?;
    let is_name = |name: &str| {
        name.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let is_method = is_name(owner)
        && owner.starts_with(|first: char| first.is_ascii_uppercase())
        && is_name(function)
        && function.starts_with(|first: char| first.is_ascii_lowercase());
    is_method.then_some((owner, function))
}

/// What a page has in backticks, outside of code blocks.
fn code_words(page: &str) -> Vec<String> {
    let prose = outside_of_blocks(page).join("\n");
    let words = prose.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

/// The targets of `[text](target)` and `![text](target)`, without those in code.
fn links(page: &str) -> Vec<String> {
    let prose: String = outside_of_blocks(page).join("\n");
    let without_code: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("`");
    without_code
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// The anchors that GitHub gives to the headings of a page.
pub(crate) fn headings(page: &str) -> BTreeSet<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in outside_of_blocks(page) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        // Of a link its text counts.
        let mut text = String::new();
        for (n, part) in title.trim().split("](").enumerate() {
            let shown = if n == 0 {
                part
            } else {
                part.split_once(')').map_or("", |(_, rest)| rest)
            };
            text.push_str(shown);
        }
        let anchor: String = text
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let before = times.entry(anchor.clone()).or_default();
        anchors.insert(match *before {
            0 => anchor,
            n => format!("{anchor}-{n}"),
        });
        *before += 1;
    }
    anchors
}

/// The lines of a page that are in no code block.
fn outside_of_blocks(page: &str) -> Vec<&str> {
    let mut in_code = false;
    page.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !in_code && !fence
        })
        .collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}
