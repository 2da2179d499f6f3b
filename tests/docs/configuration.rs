//! `docs/reference/configuration.md` is rendered from the doc comments of `src/config/file/keys.rs` and the defaults of
//! `config/node.toml`, which are compared with the program's own.

use std::collections::BTreeMap;
use std::fmt::Write;

use twinsight::config::file::{self, File, Key};
use twinsight::config::{Config, Env};

use crate::{path, read};

const PAGE: &str = "docs/reference/configuration.md";

/// Set, the test writes the page in place of comparing it.
const RENEW: &str = "DOCS_RENEW";

/// What the hub's settings may change: of a camera, and in `[defaults]`.
const FROM_HUB: &[&str] = &[
    "model",
    "max_fps",
    "max_age_ms",
    "min_score",
    "classes",
    "emit_empty",
];

const HEAD: &str = "\
<!-- Rendered from src/config/file/keys.rs and config/node.toml. Do not edit: `make docs` writes it. -->
# Configuration reference

The node is configured by a TOML file, which `--config` names, and by the environment. [`config/node.toml`](../../config/node.toml) has
every key with its default. A key that is unknown or has a wrong value ends the node with exit code 78 and a sentence that says where it is,
what is wrong and what to do: [troubleshooting](../guide/troubleshooting.md#configuration). Relative paths start at the working directory.
A node that runs follows its file: [reload](../guide/reload.md).

When a key is set in several places, the first of these wins:

1. `TWINSIGHT_…` variables: section and key in capitals, with two underscores between them. Lists are separated by commas. A
   variable that is empty counts as not set, and one that starts with `TWINSIGHT_` and is not known is an error.
2. The variables of the hub's official clients, where a key below names one.
3. Settings from the hub, where a key below says so. They are the object `settings` of the desired properties of the node's twin,
   and have the keys' names in camelCase.
4. The file.
5. The defaults.

These variables have no key:

| variable | meaning |
|---|---|
| `TWINSIGHT_CAMERAS` | twin ids of cameras, separated by commas, in place of the file's `[[cameras]]` tables; a camera that is in both keeps the file's settings |
| `TWINSIGHT_HUB__ACCESS_KEY` | the device's access key itself |
| `TWINSIGHT_HTTP__TOKEN` | the API's bearer token itself |
| `PHYSTACK_STUN_URL` | a STUN server beside those that the hub gives |
| `PHYSTACK_TURN_URL`, `PHYSTACK_TURN_USERNAME`, `PHYSTACK_TURN_CREDENTIAL` | a TURN server beside those that the hub gives; unless `ice.policy` is given, it is then `relay` |
| `RUST_LOG` | what is logged, as in `info,twinsight=debug` |

Secrets are never in the file. They come from the environment, or from a file of their own that a key ending in `_file` names.
";

#[test]
fn the_reference_is_what_the_code_says() {
    let rendered = render();
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(path(PAGE), rendered).unwrap();
        println!("{PAGE} was written");
        return;
    }
    let page = read(PAGE);
    let differs = page
        .lines()
        .zip(rendered.lines())
        .position(|(on_page, in_code)| on_page != in_code)
        .unwrap_or_else(|| page.lines().count().min(rendered.lines().count()));
    assert!(
        page == rendered,
        "{PAGE} is out of date from line {} on: `make docs` ({RENEW}=1 cargo test --test docs) writes it anew\n\
         page: {:?}\ncode: {:?}",
        differs + 1,
        page.lines().nth(differs),
        rendered.lines().nth(differs)
    );
}

/// `config/node.toml` says "every key at its default", and the reference takes the defaults from it.
#[test]
fn the_shipped_file_has_every_key_at_its_default() {
    let load = |file: Option<&str>| {
        let env: Env = [
            ("TWIN_ID", "node-1"),
            ("TWINSIGHT_CAMERAS", "camera-front-door"),
        ]
        .into_iter()
        .collect();
        let mut config = Config::load(file.map(path).as_deref(), &env).unwrap();
        config.cameras[0].name.clear();
        config
    };
    assert_eq!(load(Some("config/node.toml")), load(None));
    let shipped = Shipped::read();
    for key in file::keys() {
        assert!(
            inherited(key) || shipped.0.contains_key(&name(key)),
            "config/node.toml has no `{}`: add it with its default, or as a comment",
            name(key)
        );
    }
}

fn render() -> String {
    let shipped = Shipped::read();
    let mut page = HEAD.to_owned();
    // Each table comes behind its section.
    let sections = File::SECTIONS.iter().flat_map(|section| {
        let tables = File::TABLES.iter();
        let of_section = move |table: &&&str| table.split('.').next() == Some(section);
        std::iter::once(section).chain(tables.filter(of_section))
    });
    for section in sections {
        let title = match *section {
            "cameras" | "sinks" | "cameras.zones" | "cameras.lines" | "cameras.masks" => {
                format!("[[{section}]]")
            }
            "models" => "[models.NAME]".to_owned(),
            section => format!("[{section}]"),
        };
        write!(page, "\n## `{title}`\n\n{}", plain(File::about(section))).unwrap();
        let keys = || file::keys().filter(|key| key.section == *section);
        if *section == "cameras" {
            page.push_str(
                "Each stream has a table of its own, with `twin_id`, `name`, and any key of `[defaults]` (those of `[defaults.track]` in \
                 `[cameras.track]`), which then holds for this\ncamera in place of the default. No variable sets these keys. The hub's settings may list cameras too.\n",
            );
        }
        for key in keys().filter(|key| !inherited(key)) {
            write!(page, "\n### `{}`\n\n", name(key)).unwrap();
            page.push_str(&plain(key.doc));
            page.push('\n');
            for (what, value) in facts(key, &shipped) {
                writeln!(page, "- {what}: {value}").unwrap();
            }
        }
    }
    page
}

/// What a reader looks up about a key.
fn facts(key: &Key, shipped: &Shipped) -> Vec<(&'static str, String)> {
    let mut facts = vec![("takes", key.takes.to_owned())];
    facts.push(match shipped.0.get(&name(key)) {
        Some(Value::Default(value)) => ("default", format!("`{value}`")),
        Some(Value::Example(value)) => ("default", format!("not set; for example `{value}`")),
        None => ("default", "none".to_owned()),
    });
    if let ("cameras", "twin_id")
    | ("sinks", "type" | "url")
    | ("models", "backend" | "url")
    | ("cameras.zones" | "cameras.lines", "name")
    | ("cameras.zones" | "cameras.masks", "points")
    | ("cameras.lines", "from" | "to") = (key.section, key.name)
    {
        facts[1].1 = "none: it must be given".to_owned();
    } else if let ("cameras", "name") = (key.section, key.name) {
        facts[1].1 = "the twin id".to_owned();
    }
    let in_list = ["cameras", "models", "sinks"].contains(&key.section.split('.').next().unwrap());
    if !in_list {
        let section = key.section.replace('.', "__");
        let own = format!("TWINSIGHT_{section}__{}", key.name).to_ascii_uppercase();
        facts.push(("variable", format!("`{own}`")));
        let others = other_variables(key.doc);
        if !others.is_empty() {
            facts.push(("other variables", others.join(", ")));
        }
    }
    // What makes a node connect to an address is never a hub's to say.
    let of_a_camera = key.section == "cameras" && !["rtsp", "device"].contains(&key.name);
    let from_hub = of_a_camera || (key.section == "defaults" && FROM_HUB.contains(&key.name));
    facts.push((
        "from the hub's settings",
        if from_hub {
            format!("yes, `{}`", camel_case(key.name))
        } else {
            "no".to_owned()
        },
    ));
    facts
}

/// The variables that a doc comment names beside the key's own.
fn other_variables(doc: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for quoted in doc.split('`').skip(1).step_by(2) {
        let variable = quoted.split('=').next().unwrap_or_default();
        let is_name = variable.contains('_')
            && variable
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_name
            && !found
                .iter()
                .any(|each| each.contains(&format!("`{variable}")))
        {
            found.push(format!("`{quoted}`"));
        }
    }
    found
}

/// A camera's own copy of a default.
fn inherited(key: &Key) -> bool {
    key.section == "cameras"
        && file::keys().any(|other| other.section == "defaults" && other.name == key.name)
}

fn name(key: &Key) -> String {
    format!("{}.{}", key.section, key.name)
}

/// A doc comment without its indent.
fn plain(doc: &str) -> String {
    doc.lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        .collect()
}

fn camel_case(name: &str) -> String {
    let mut upper = false;
    name.chars()
        .filter_map(|c| {
            if c == '_' {
                upper = true;
                return None;
            }
            let c = if upper { c.to_ascii_uppercase() } else { c };
            upper = false;
            Some(c)
        })
        .collect()
}

/// `config/node.toml`: values by key.
struct Shipped(BTreeMap<String, Value>);

enum Value {
    /// The key is set to it.
    Default(String),
    /// The key is a comment.
    Example(String),
}

impl Shipped {
    fn read() -> Self {
        let mut section = String::new();
        let mut values = BTreeMap::new();
        for line in read("config/node.toml").lines() {
            // A list that has no table unless somebody adds one is a comment.
            let header = line
                .strip_prefix("# ")
                .filter(|text| text.starts_with("[[") || text.starts_with("[models."));
            let header = header.filter(|text| text.ends_with(']')).unwrap_or(line);
            if header.starts_with('[') {
                section = header.trim_matches(['[', ']']).replace(".NAME", "");
            } else {
                let set = line.strip_prefix("# ");
                let Some((key, value)) = set.unwrap_or(line).split_once(" = ") else {
                    continue;
                };
                if file::keys().any(|known| known.section == section && known.name == key) {
                    let value = value.to_owned();
                    values.insert(
                        format!("{section}.{key}"),
                        match set {
                            Some(_) => Value::Example(value),
                            None => Value::Default(value),
                        },
                    );
                }
            }
        }
        Self(values)
    }
}
