//! Writes a manifest: its keys and the reasons for their values come in, the text of `NAME.toml` goes out. `twinsight model add` installs it,
//! and `twinsight model show` prints it with all defaults filled in.

use std::fmt::Write as _;

use super::file::{Background, Column, Keypoints, Kind, Labels, ManifestFile, OutputTable, Resize};
use crate::detect::recognize::Notes;

impl ManifestFile {
    /// The text of the manifest. `head` are lines that stand above it as comments.
    pub(crate) fn write(&self, notes: &Notes, head: &[String]) -> String {
        let mut text = Text {
            notes,
            table: "",
            out: String::new(),
        };
        for line in head {
            let _ = writeln!(text.out, "# {line}");
        }
        for (key, value) in [("file", &self.file), ("sha256", &self.sha256)] {
            if let Some(value) = value {
                text.key(key, &quoted(value));
            }
        }
        text.key("licence", &quoted(&self.licence));
        text.key("source", &quoted(&self.source));
        let labels = match &self.labels {
            Labels::File(file) => quoted(file),
            Labels::Inline(labels) => list(labels.iter().map(|label| quoted(label))),
        };
        text.key("labels", &labels);
        text.key("nms_iou", &number(self.nms_iou));
        text.table("input");
        let input = &self.input;
        text.key("name", &quoted(&input.name));
        text.key("width", &input.width.to_string());
        text.key("height", &input.height.to_string());
        text.key("layout", &quoted(input.layout.word()));
        text.key("color_order", &quoted(input.color_order.word()));
        text.key("scale", &number(input.scale));
        text.key("mean", &list(input.mean.iter().map(|&n| number(n))));
        text.key("std", &list(input.std.iter().map(|&n| number(n))));
        text.key("resize", &quoted(input.resize.word()));
        if let Some(align) = input.align {
            text.key("align", &quoted(align.word()));
        }
        if let Some(pad) = input.pad {
            text.key("pad", &pad.to_string());
        }
        if !input.extra.is_empty() {
            let all = input.extra.iter();
            let pairs: Vec<String> = all
                .map(|(name, extra)| format!("{} = {}", quoted(name), quoted(extra.word())))
                .collect();
            text.key("extra", &format!("{{ {} }}", pairs.join(", ")));
        }
        text.table("output");
        self.output.write(&mut text);
        text.out
    }
}

impl OutputTable {
    fn write(&self, text: &mut Text<'_>) {
        text.key("kind", &quoted(self.kind.word()));
        let names = [
            ("predictions", &self.predictions),
            ("boxes", &self.boxes),
            ("scores", &self.scores),
            ("logits", &self.logits),
            ("labels", &self.labels),
            ("count", &self.count),
            ("prototypes", &self.prototypes),
            ("heatmap", &self.heatmap),
            ("size", &self.size),
            ("offset", &self.offset),
            ("landmarks", &self.landmarks),
        ];
        for (key, name) in names {
            if let Some(name) = name {
                text.key(key, &quoted(name));
            }
        }
        let words = [
            ("box_format", self.box_format.map(|found| found.word())),
            ("box_units", self.box_units.map(|found| found.word())),
            ("activation", self.activation.map(|found| found.word())),
            ("background", self.background.map(|found| found.word())),
        ];
        for (key, word) in words {
            if let Some(word) = word {
                text.key(key, &quoted(word));
            }
        }
        if let Some(columns) = &self.columns {
            text.key(
                "columns",
                &list(columns.iter().map(|column| quoted(column.word()))),
            );
        }
        if let Some(anchors) = &self.anchors {
            text.key("anchors", &quoted(anchors));
        }
        if let Some(variances) = self.variances {
            text.key("variances", &list(variances.iter().map(|&n| number(n))));
        }
        if let Some(strides) = &self.strides {
            text.key("strides", &list(strides.iter().map(u16::to_string)));
        }
        match &self.keypoints {
            None => {}
            Some(Keypoints::Count(count)) => text.key("keypoints", &count.to_string()),
            Some(Keypoints::Names(names)) => {
                text.key("keypoints", &list(names.iter().map(|name| quoted(name))));
            }
        }
        if let Some(numbers) = self.keypoint_numbers {
            text.key("keypoint_numbers", &numbers.to_string());
        }
    }

    /// The same with everything filled in that the kind implies.
    pub(crate) fn filled_in(mut self) -> Self {
        let kind = self.kind;
        let (required, optional) = kind.keys();
        let has = |key: &str| required.contains(&key) || optional.contains(&key);
        let (format, units, activation) = kind.defaults();
        if has("box_format") {
            self.box_format = self.box_format.or(Some(format));
        }
        if has("box_units") && self.anchors.is_none() {
            self.box_units = self.box_units.or(Some(units));
        }
        if has("activation") {
            self.activation = self.activation.or(Some(activation));
        }
        if has("background") {
            let is_softmax = self.activation == Some(super::file::Activation::Softmax);
            self.background = self.background.or(Some(match (kind, is_softmax) {
                (Kind::Detr, true) => Background::Last,
                _ => Background::None,
            }));
        }
        if has("columns") {
            let columns: Vec<Column> = kind.columns().to_vec();
            self.columns = self.columns.or(Some(columns));
        }
        if has("strides") {
            self.strides = self.strides.or(Some(vec![8, 16, 32]));
        }
        if self.anchors.is_some() {
            self.variances = self.variances.or(Some([0.1, 0.2]));
        }
        if has("keypoint_numbers") {
            self.keypoint_numbers = self.keypoint_numbers.or(Some(3));
        }
        self
    }
}

impl ManifestFile {
    /// The same with everything filled in that is not given.
    pub(crate) fn filled_in(mut self) -> Self {
        self.output = self.output.filled_in();
        if self.input.resize == Resize::Letterbox {
            self.input.align = self.input.align.or(Some(super::file::Align::Center));
            self.input.pad = self.input.pad.or(Some(0));
        }
        self
    }
}

struct Text<'a> {
    notes: &'a Notes,
    table: &'static str,
    out: String,
}

impl Text<'_> {
    fn table(&mut self, name: &'static str) {
        self.table = name;
        let _ = writeln!(self.out, "\n[{name}]");
    }

    fn key(&mut self, key: &str, value: &str) {
        let full = if self.table.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.table)
        };
        let line = format!("{key} = {value}");
        match self.notes.get(&full) {
            None => {
                let _ = writeln!(self.out, "{line}");
            }
            // A comment behind a long line would not be seen.
            Some(why) if line.len() + why.len() < 116 => {
                let _ = writeln!(self.out, "{line}  # {why}");
            }
            Some(why) => {
                let _ = writeln!(self.out, "# {why}:\n{line}");
            }
        }
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A number as TOML writes it, with a point and no more digits than it has.
fn number(value: f32) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let path = Path::new("m.toml");
        let text = r#"file = "m.onnx"
sha256 = "00"
licence = "MIT"
source = "a \"b\"\\c"
labels = ["person", "it's"]
nms_iou = 0.6
[input]
name = "images"
width = 640
height = 384
layout = "nhwc"
color_order = "bgr"
scale = 0.003921569
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
resize = "letterbox"
align = "top_left"
pad = 114
extra = { "orig.size" = "height_width" }
[output]
kind = "yolo_pose"
predictions = "out"
box_units = "shares"
columns = ["box", "score", "class", "keypoints"]
keypoints = ["nose", "left eye"]
keypoint_numbers = 2
"#;
        let file = ManifestFile::parse(text, path).unwrap();
        let mut notes = Notes::default();
        notes.add("output.box_units", "no number is over 1");
        let written = file.write(&notes, &["Two lines".to_owned(), "above".to_owned()]);
        assert_eq!(ManifestFile::parse(&written, path).unwrap(), file);
        assert!(
            written.starts_with("# Two lines\n# above\nfile = "),
            "{written}"
        );
        assert!(
            written.contains("box_units = \"shares\"  # no number is over 1\n"),
            "{written}"
        );
        let whole = file.clone().filled_in().write(&notes, &[]);
        assert!(whole.contains("activation = \"none\"\n"), "{whole}");
        let again = ManifestFile::parse(&whole, path).unwrap();
        let resolved = |file: &ManifestFile| file.output.resolve(path, 2).unwrap();
        assert_eq!(resolved(&again), resolved(&file));
    }
}
