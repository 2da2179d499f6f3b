//! `docs/reference/commands.md`: each command of the program has its row, with each of its options, and there is no other.

use std::collections::BTreeMap;
use std::process::Command;

use crate::read;

const PAGE: &str = "docs/reference/commands.md";

/// Options that every command has; the page tells of them elsewhere.
const OF_EVERY_COMMAND: &[&str] = &["--help", "--log-format", "--version"];

#[test]
fn the_page_has_every_command_with_its_options() {
    let page = read(PAGE);
    let rows: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("| `twinsight ")?;
            Some((rest.split([' ', '`']).next()?, line))
        })
        .collect();
    let commands = commands();
    let on_page: Vec<&str> = rows.keys().copied().collect();
    let in_program: Vec<&str> = commands.keys().map(String::as_str).collect();
    assert_eq!(
        on_page, in_program,
        "{PAGE} (left) and `twinsight --help` differ"
    );
    for (command, options) in &commands {
        let row = rows[command.as_str()];
        for option in options {
            assert!(
                row.contains(option.as_str()),
                "{PAGE}: {command} has {option}"
            );
        }
        for word in row.split(|c: char| !c.is_ascii_lowercase() && c != '-') {
            assert!(
                !word.starts_with("--") || options.iter().any(|option| option == word),
                "{PAGE}: {command} has no {word}"
            );
        }
    }
}

/// The options of each command, as the program's help has them.
fn commands() -> BTreeMap<String, Vec<String>> {
    let help = help(&[]);
    let (_, after) = help.split_once("Commands:\n").unwrap();
    after
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(|command| (command.to_owned(), options(command)))
        .collect()
}

fn options(command: &str) -> Vec<String> {
    help(&[command])
        .lines()
        .filter_map(|line| {
            let line = line.trim_start().trim_start_matches("-h, ");
            let option = line.split_whitespace().next()?;
            option.starts_with("--").then(|| option.to_owned())
        })
        .filter(|option| !OF_EVERY_COMMAND.contains(&option.as_str()))
        .collect()
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_twinsight"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
