//! `docs/reference/commands.md`: each command of the program has its row, with each of its options, and there is no other.

use std::collections::BTreeMap;
use std::process::Command;

use crate::read;

const PAGE: &str = "docs/reference/commands.md";

/// Commands that consist of several.
const OF_SEVERAL: &[&str] = &["model"];

/// Options that every command has; the page tells of them elsewhere.
const OF_EVERY_COMMAND: &[&str] = &["--help", "--log-format", "--version"];

#[test]
fn the_page_has_every_command_with_its_options() {
    let page = read(PAGE);
    let rows: BTreeMap<String, &str> = page
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("| `twinsight ")?;
            let mut words = rest.split([' ', '`']);
            let command = words.next()?;
            Some(match words.next() {
                Some(subcommand) if OF_SEVERAL.contains(&command) => {
                    (format!("{command} {subcommand}"), line)
                }
                _ => (command.to_owned(), line),
            })
        })
        .collect();
    let commands = commands();
    let on_page: Vec<&str> = rows.keys().map(String::as_str).collect();
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
    let each = |command: String| {
        if OF_SEVERAL.contains(&command.as_str()) {
            let inner = listed(&[&command]).into_iter();
            inner.map(|inner| format!("{command} {inner}")).collect()
        } else {
            vec![command]
        }
    };
    let all = listed(&[]).into_iter().flat_map(each);
    all.map(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        let options = options(&words);
        (command, options)
    })
    .collect()
}

/// The commands that the help of this one lists.
fn listed(command: &[&str]) -> Vec<String> {
    let help = help(command);
    let (_, after) = help.split_once("Commands:\n").unwrap();
    let lines = after.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

fn options(command: &[&str]) -> Vec<String> {
    help(command)
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
