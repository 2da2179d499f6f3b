//! Links between documents: each names a file that is there and a heading that it has, and every page under `docs/` can be
//! found from its index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::path;

/// Pages beside those under `docs/`.
const OTHERS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
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
fn headings(page: &str) -> BTreeSet<String> {
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
