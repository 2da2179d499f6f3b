//! The sentences of mistakes in zones, lines and masks. A change over HTTP is answered by them without the lines of the file, so each has
//! to say which part of which camera it is about.

use super::super::resolve::tests::{NODE, sentence};

const CAMERA: &str = "[[cameras]]\ntwin_id = \"a\"\n";
const CORNERS: &str = "points = [[0, 0], [1, 0], [1, 1]]\n";

#[test]
fn every_mistake_in_a_part_says_which_one_it_is() {
    let zone = |text: &str| format!("[[cameras.zones]]\n{text}");
    let line = |text: &str| format!("[[cameras.lines]]\n{text}");
    let table = [
        (
            line("name = \"gate\"\nfrom = [2, 0]\nto = [1, 1]"),
            "5: `cameras.lines.from` of line \"gate\" of camera a is [2.0, 0.0]: give a point in parts of the picture, two numbers from 0 to 1",
        ),
        (
            line("name = \"gate\"\nfrom = [0, 0]\nto = [1, -1]"),
            "6: `cameras.lines.to` of line \"gate\" of camera a is [1.0, -1.0]: give a point in parts of the picture, two numbers from 0 to 1",
        ),
        (
            line("name = \"gate\"\nfrom = [0, 0]\nto = [0, 0]"),
            "3: line \"gate\" of camera a ends where it begins: move `from` or `to`",
        ),
        (
            line("from = [0, 0]\nto = [1, 1]"),
            "3: line 1 of camera a has no `name`: add it",
        ),
        (
            line("name = \"gate\"\nfrom = [0, 0]"),
            "3: line \"gate\" of camera a has no `to`: add it",
        ),
        (
            zone(&format!(
                "name = \"z\"\n{CORNERS}{}name = \" \"\n{CORNERS}",
                zone("")
            )),
            "7: `cameras.zones.name` of zone 2 of camera a is \" \": give 1 to 64 characters in one line",
        ),
        (
            zone("name = \"\"\npoints = [[0, 0], [1, 0]]"),
            "4: `cameras.zones.name` of zone 1 of camera a is \"\": give 1 to 64 characters in one line; node.toml line 5: zone 1 of camera \
             a: a polygon has at least 3 points, and this one has 2: add the corners that are missing",
        ),
        (
            zone(&format!("name = \"yard\"\n{CORNERS}labels = [\"\"]")),
            "6: `cameras.zones.labels` of zone \"yard\" of camera a is [\"\"]: give at most 64 of the model's labels",
        ),
        (
            zone(&format!("name = \"yard\"\n{CORNERS}min_dwell_ms = -1")),
            "6: `cameras.zones.min_dwell_ms` of zone \"yard\" of camera a is -1: give a whole number from 0 to 3600000",
        ),
        (
            format!("[[cameras.masks]]\n{CORNERS}[[cameras.masks]]\n{CORNERS}labels = [\"\"]"),
            "7: `cameras.masks.labels` of mask 2 of camera a is [\"\"]: give at most 64 of the model's labels",
        ),
        (
            "[[cameras.masks]]\npoints = [[0, 0], [1, 0]]".to_owned(),
            "4: mask 1 of camera a: a polygon has at least 3 points, and this one has 2: add the corners that are missing",
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in table {
        let text = format!("{CAMERA}{text}");
        let found = sentence(&text, NODE);
        if found != format!("node.toml line {expected}") {
            wrong += &format!("\n{text}\n  expected: {expected}\n  found:    {found}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
