use super::*;
use crate::config::Config;

fn catalog() -> Catalog {
    let info = ModelInfo {
        name: "model".into(),
        sha256: None,
        labels: ["person".to_owned(), "car".to_owned(), "dog".to_owned()].into(),
        keypoints: Arc::new([]),
    };
    Catalog::of("model".to_owned(), info)
}

/// What is said of a camera with these keys and parts.
fn refused(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let text = format!(
        "[hub]\ntwin_id = \"node\"\n[[cameras]]\ntwin_id = \"yard\"\nmodel = \"model\"\n{text}"
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(
        Some(&file),
        &[("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1")]
            .into_iter()
            .collect(),
    )
    .unwrap();
    let resolved = catalog().resolve(&config.cameras[0]);
    resolved.err().map(|error| error.to_string())
}

const CORNERS: &str = "points = [[0, 0], [1, 0], [1, 1]]\n";

#[test]
fn a_label_that_the_model_does_not_have_is_refused_wherever_it_is() {
    let zone = format!("[[cameras.zones]]\nname = \"path\"\n{CORNERS}");
    let line = "[[cameras.lines]]\nname = \"gate\"\nfrom = [0, 0]\nto = [1, 1]\n";
    let mask = format!("[[cameras.masks]]\n{CORNERS}");
    let labels = "labels = [\"person\", \"persn\"]\n";
    for (part, text) in [
        ("zone \"path\"", format!("{zone}{labels}")),
        ("line \"gate\"", format!("{line}{labels}")),
        ("mask 2", format!("{mask}{mask}{labels}")),
    ] {
        assert_eq!(
            refused(&text).unwrap_or_default(),
            format!(
                "camera yard/default: {part}: model `model` has no class `persn`; did you mean `person`?; correct its `labels`"
            )
        );
    }
    assert_eq!(
        refused(&format!("{zone}labels = [\"unheard-of\"]\n")).unwrap_or_default(),
        "camera yard/default: zone \"path\": model `model` has no class `unheard-of`; correct its `labels`"
    );
    assert_eq!(
        refused(&format!(
            "{zone}labels = [\"person\"]\n{line}{mask}labels = [\"dog\"]\n"
        )),
        None
    );
}

#[test]
fn a_label_that_classes_leaves_out_is_never_seen_and_refused() {
    let zone = format!("[[cameras.zones]]\nname = \"path\"\n{CORNERS}labels = [\"dog\"]\n");
    assert_eq!(
        refused(&format!("classes = [\"person\", \"car\"]\n{zone}")).unwrap_or_default(),
        "camera yard/default: zone \"path\" has the label `dog`, which `classes` leaves out, so that it is never seen: add it to `classes`, or \
         remove it from its `labels`"
    );
    assert_eq!(
        refused(&format!("classes = [\"person\", \"dog\"]\n{zone}")),
        None
    );
}
