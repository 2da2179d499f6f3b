//! `lib.rs` of each crate lists its modules in the order of the path, and `use crate::…` points only to modules above: so
//! whoever reads a module from top to bottom meets nothing that is not known yet. Tests may use what they like.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{path, read};

const CRATES: &[&str] = &[
    "src",
    "crates/twinsight-client/src",
    "crates/twinsight-media/src",
];

/// Modules that point below all the same: the folder of sources, the module, and what it uses.
const ALLOWED: &[(&str, &str, &str)] = &[];

#[test]
fn modules_use_only_those_above_them() {
    let mut below = Vec::new();
    for &folder in CRATES {
        let order = modules(&read(&format!("{folder}/lib.rs")));
        assert!(order.len() > 5, "{folder}: {order:?}");
        for file in sources(&path(folder)) {
            let name = file.strip_prefix(path(folder)).unwrap();
            let own = name.iter().next().unwrap().to_str().unwrap();
            let own = own.strip_suffix(".rs").unwrap_or(own);
            // The program and `lib.rs` itself use everything.
            let Some(own_place) = order.iter().position(|module| module == own) else {
                continue;
            };
            let text = std::fs::read_to_string(&file).unwrap();
            for (used, line) in uses(&text) {
                let is_below = order
                    .iter()
                    .position(|module| *module == used)
                    .is_some_and(|place| place > own_place);
                if is_below && !ALLOWED.contains(&(folder, own, &used)) {
                    below.push(format!(
                        "{folder}/{}:{line} uses `{used}`, which `lib.rs` lists below `{own}`",
                        name.display()
                    ));
                }
            }
        }
    }
    assert!(below.is_empty(), "{}", below.join("\n"));
}

#[test]
fn uses_are_found_in_sources() {
    let order =
        modules("#[macro_use]\npub mod one;\n\n#[cfg(x)]\npub(crate) mod two;\nmod three;\n");
    assert_eq!(order, ["one", "two", "three"]);
    let source = "//! See [`crate::none`].\nuse crate::one::{A, B};\nuse super::C;\n\n\
                  fn f() -> crate::two::D { crate::label! {} } // crate::none\n\
                  macro_rules! m { () => { $crate::none } }\n\n\
                  #[cfg(test)]\nmod tests {\n    use crate::none;\n}\n\n\
                  fn g() {}\n";
    let expected = BTreeMap::from([
        ("one".to_owned(), 2),
        ("two".to_owned(), 5),
        ("label".to_owned(), 5),
    ]);
    assert_eq!(uses(source), expected);
}

/// The modules that a `lib.rs` names, in its order.
fn modules(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .map(str::to_owned)
        .collect()
}

/// What stands behind `crate::` in the code, without its tests and comments, and the first line that has it.
fn uses(source: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut is_test = false;
    for (number, line) in (1..).zip(source.lines()) {
        // An item for tests ends with the next line at the left edge that closes one.
        is_test |= line == "#[cfg(test)]";
        if is_test {
            is_test = !(line.starts_with('}') || line.ends_with(';') && !line.starts_with(' '));
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            if code[..at].ends_with(|before: char| {
                before == '$' || before.is_alphanumeric() || before == '_'
            }) {
                continue;
            }
            let name: String = code[at + "crate::".len()..]
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            found.entry(name).or_insert(number);
        }
    }
    found
}

/// All files with code of a folder, but for those of tests alone.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
