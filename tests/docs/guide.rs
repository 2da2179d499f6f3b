//! `docs/client/index.md`: the tests and examples that it names are there.

use super::read;

#[test]
fn the_tests_and_examples_that_the_guide_names_exist() {
    let guide = read("docs/client/index.md");
    let mut named = 0;
    for line in guide.lines().filter(|line| line.starts_with('|')) {
        // What is in backticks, in order: a test's file and then its function.
        let mut words = line.split('`').skip(1).step_by(2).peekable();
        while let Some(word) = words.next() {
            if word.ends_with(".rs") && word.starts_with("tests/") {
                let text = read(word);
                if let Some(function) = words.next_if(|word| !word.contains('/')) {
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
    }
    assert!(named > 20, "the tables are not found: {named}");
}
