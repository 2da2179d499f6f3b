//! `docs/client/`: the tests and examples that its pages name are there. And what a page shows of an example is the example.

use super::{path, read};

#[test]
fn the_tests_and_examples_that_the_guide_names_exist() {
    let mut named = 0;
    for entry in std::fs::read_dir(path("docs/client")).unwrap() {
        let page = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        named += check(&page);
    }
    assert!(named > 60, "the tables are not found: {named}");
}

#[test]
fn the_page_of_events_shows_the_examples_as_they_are() {
    let page = read("docs/reference/events.md");
    for (language, example) in [
        ("python", "examples/watch.py"),
        ("js", "examples/watch.mjs"),
    ] {
        let block = format!("```{language}\n{}```\n", read(example));
        assert!(
            page.contains(&block),
            "docs/reference/events.md does not show {example} as it is: copy it there"
        );
        let lines = read(example)
            .lines()
            .filter(|line| !line.is_empty())
            .count();
        assert!(lines <= 20, "{example} is to stay short: {lines} lines");
    }
}

/// Looks up what a page has in backticks, in order: a test's file and then its function, or an example.
/// Gives the number of functions.
fn check(page: &str) -> usize {
    let mut named = 0;
    let prose = outside_of_code_blocks(page);
    let mut words = prose.split('`').skip(1).step_by(2).peekable();
    while let Some(word) = words.next() {
        if word.ends_with(".rs") && word.starts_with("tests/") {
            let text = read(word);
            if let Some(function) = words.next_if(|word| is_function(word)) {
                assert!(
                    text.contains(&format!("fn {function}(")),
                    "{word} has no {function}"
                );
                named += 1;
            }
        } else if word.ends_with(".rs") {
            let path = word.strip_prefix("examples/").unwrap_or(word);
            read(&format!("examples/{path}"));
        }
    }
    named
}

/// Names of tests are sentences.
fn is_function(word: &str) -> bool {
    word.matches('_').count() >= 2 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn outside_of_code_blocks(page: &str) -> String {
    page.split("```").step_by(2).collect()
}
