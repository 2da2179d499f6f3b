//! The reference of the manifest in `docs/models.md`, between two markers, is rendered from the doc comments of
//! `src/detect/manifest/file.rs` and from what each kind of output implies.

use std::fmt::Write;

use twinsight::detect::manifest::file::{
    Activation, Align, Background, BoxFormat, BoxUnits, ColorOrder, Column, Extra, Key, Kind,
    Layout, Resize, keys,
};

use crate::{path, read};

const PAGE: &str = "docs/models.md";

/// Set, the test writes the part in place of comparing it.
const RENEW: &str = "DOCS_RENEW";

const START: &str = "<!-- manifest: from src/detect/manifest/file.rs; do not edit: `make docs` writes it up to the next marker -->\n";
const END: &str = "<!-- manifest: end -->\n";

#[test]
fn the_reference_of_manifests_is_what_the_code_says() {
    let page = read(PAGE);
    let (before, rest) = page
        .split_once(START)
        .unwrap_or_else(|| panic!("{PAGE} has no line {START}"));
    let (on_page, after) = rest
        .split_once(END)
        .unwrap_or_else(|| panic!("{PAGE} has no line {END}"));
    let rendered = render();
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(path(PAGE), format!("{before}{START}{rendered}{END}{after}")).unwrap();
        println!("{PAGE} was written");
        return;
    }
    let differs = on_page
        .lines()
        .zip(rendered.lines())
        .find(|(on_page, in_code)| on_page != in_code);
    assert!(
        on_page == rendered,
        "{PAGE} is out of date: `make docs` ({RENEW}=1 cargo test --test docs the_reference) writes it anew\n{differs:?}"
    );
}

/// A word that is in no table would be one that nobody can find.
#[test]
fn the_reference_of_manifests_has_every_key_and_word() {
    let rendered = render();
    for key in keys() {
        assert!(
            rendered.contains(&format!("| `{}` |", name(key))),
            "{key:?}"
        );
        // A type that has words and is not known here panics in `words`.
        for (word, _) in words(key) {
            assert!(rendered.contains(&format!("`{word}`")), "{word}");
        }
    }
}

fn render() -> String {
    let mut part = String::from(
        "
### Output kinds

C is the number of classes and N the number of candidates. A key that is not given has the value of its column; `–` stands for one that
the kind does not take. Each output may be without its first dimension, the 1.

| `output.kind` | what the outputs hold | `box_format` | `box_units` | `activation` | `columns` |
|---|---|---|---|---|---|
",
    );
    for &kind in Kind::ALL {
        let (format, units, activation) = kind.defaults();
        let columns: Vec<&str> = kind.columns().iter().map(|column| column.word()).collect();
        let or_none = |key: &str, value: &str| {
            let (needed, allowed) = kind.keys();
            if needed.contains(&key) || allowed.contains(&key) {
                format!("`{value}`")
            } else {
                "–".to_owned()
            }
        };
        writeln!(
            part,
            "| `{kind}` | {} | {} | {} | {} | {} |",
            one_line(kind.doc()),
            or_none("box_format", format.word()),
            or_none("box_units", units.word()),
            or_none("activation", activation.word()),
            or_none("columns", &columns.join(", ")),
        )
        .unwrap();
    }
    for (table, title) in [
        ("", "Keys at the top of the file"),
        ("input", "Keys of `[input]`"),
        ("output", "Keys of `[output]`"),
    ] {
        write!(part, "\n### {title}\n\n").unwrap();
        let is_output = table == "output";
        part.push_str(if is_output {
            "A kind in bold needs the key, and the others may have it.\n\n| key | kinds | meaning |\n|---|---|---|\n"
        } else {
            "| key | meaning |\n|---|---|\n"
        });
        for key in keys().filter(|key| key.table == table) {
            write!(part, "| `{}` |", name(key)).unwrap();
            if is_output {
                write!(part, " {} |", kinds(key)).unwrap();
            }
            write!(part, " {}", one_line(key.doc)).unwrap();
            if key.name != "kind" {
                for (word, doc) in words(key) {
                    write!(part, "<br>`{word}`: {}", one_line(doc)).unwrap();
                }
            }
            part.push_str(" |\n");
        }
    }
    part.push('\n');
    part
}

/// The key with its table.
fn name(key: &Key) -> String {
    if key.table.is_empty() {
        key.name.to_owned()
    } else {
        format!("{}.{}", key.table, key.name)
    }
}

/// The kinds of output that take a key.
fn kinds(key: &Key) -> String {
    if key.name == "kind" {
        return "**all**".to_owned();
    }
    let (mut found, mut others, mut is_needed) = (Vec::new(), Vec::new(), false);
    for &kind in Kind::ALL {
        let (needed, allowed) = kind.keys();
        if needed.contains(&key.name) {
            found.push(format!("**`{kind}`**"));
            is_needed = true;
        } else if allowed.contains(&key.name) {
            found.push(format!("`{kind}`"));
        } else {
            others.push(format!("`{kind}`"));
        }
    }
    match (is_needed, others.len()) {
        (false, 0) => "all".to_owned(),
        (false, 1 | 2) => format!("all but {}", others.join(" and ")),
        _ => found.join(", "),
    }
}

/// The words that a key takes, with what each means; none for a key that takes texts or numbers.
fn words(key: &Key) -> Vec<(&'static str, &'static str)> {
    macro_rules! all {
        ($words:ty) => {
            <$words>::ALL
                .iter()
                .map(|word| (word.word(), word.doc()))
                .collect()
        };
    }
    let takes: String = key.takes.split_whitespace().collect();
    let takes = takes
        .trim_start_matches("Option<")
        .trim_start_matches("Vec<")
        .trim_start_matches("BTreeMap<String,")
        .trim_end_matches('>');
    match takes {
        "Kind" => all!(Kind),
        "Layout" => all!(Layout),
        "ColorOrder" => all!(ColorOrder),
        "Resize" => all!(Resize),
        "Align" => all!(Align),
        "Extra" => all!(Extra),
        "BoxFormat" => all!(BoxFormat),
        "BoxUnits" => all!(BoxUnits),
        "Activation" => all!(Activation),
        "Background" => all!(Background),
        "Column" => all!(Column),
        "String" | "Labels" | "Keypoints" | "InputTable" | "OutputTable" | "usize" | "u8"
        | "u16" | "f32" | "[f32;2]" | "[f32;3]" => Vec::new(),
        other => panic!("`{}` takes {other}: say its words here", name(key)),
    }
}

/// A doc comment in one line, for a cell of a table.
fn one_line(doc: &str) -> String {
    let text = doc.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|")
}
