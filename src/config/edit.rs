//! Writes the zones, lines and masks of a camera into the text of the configuration. The text, a camera and what it is to have come in,
//! and the new text goes out, in which everything else is as it was, comments and line ends too. Plain text in and out: who reads and
//! writes the file checks that the new text means what was asked for.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::scene_json::{LineJson, MaskJson, SceneJson, ZoneJson};
use super::shown::shown;
use twinsight_client::stream_id::StreamId;

/// Why a text is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not TOML.
    #[error("the configuration file cannot be read as TOML ({0}): correct it first")]
    Syntax(String),
    /// No section of it is of the camera.
    #[error(
        "the configuration file has no section of twin \"{}\" with stream \"{}\", which is listed elsewhere, by `TWINSIGHT_CAMERAS` or by the hub's settings: add a `[[cameras]]` with this `twin_id` to the file",
        shown(twin_id),
        shown(stream)
    )]
    NoSection {
        /// The twin of the camera that was to be changed.
        twin_id: String,
        /// The name of its stream.
        stream: String,
    },
    /// Several sections may be of the camera.
    #[error(
        "the configuration file has {found} sections of twin \"{}\" that may be its stream \"{}\": give each a `stream` of its own",
        shown(twin_id),
        shown(stream)
    )]
    SeveralSections {
        /// The twin of the camera that was to be changed.
        twin_id: String,
        /// The name of its stream.
        stream: String,
        /// How many sections there are.
        found: usize,
    },
    /// The new text would be longer than a node reads, so that it could neither be taken nor be read at the next start.
    #[error(
        "the configuration file would have {bytes} bytes with this change, and a node reads {limit}: remove zones, lines and masks that are not \
         needed, or comments"
    )]
    TooLong {
        /// How long the new text is.
        bytes: usize,
        /// How long a text may be.
        limit: u64,
    },
    /// A key is written in a way in which it means nothing.
    #[error("`{key}` of the configuration file is no list of tables: write it as `[[{key}]]`")]
    NoTables {
        /// The name of the table that is no list, such as `cameras.zones`.
        key: &'static str,
    },
}

/// A key of a zone, a line or a mask, with what it is to be. `None` means that it is left out.
type Wanted = (&'static str, Option<Value>);

/// The text in which this camera has these zones, lines and masks, and nothing else differs. Zones and lines whose names stay keep their
/// comments, and numbers that stay are written as they were.
///
/// # Errors
/// When the text is not TOML, or it is not clear which of its sections is the camera's.
pub fn edit_scene(text: &str, camera: &StreamId, scene: &SceneJson) -> Result<String, EditError> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    // The editor of TOML knows one kind of line end.
    let mut document: DocumentMut = body
        .replace("\r\n", "\n")
        .parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))?;
    let Section {
        table, is_inline, ..
    } = section(&mut document, camera)?;
    let zones = scene.zones.iter().map(zone).collect();
    let lines = scene.lines.iter().map(line).collect();
    let masks = scene.masks.iter().map(mask).collect();
    write(table, is_inline, ("zones", "cameras.zones"), zones)?;
    write(table, is_inline, ("lines", "cameras.lines"), lines)?;
    write(table, is_inline, ("masks", "cameras.masks"), masks)?;
    Ok(format!("{mark}{}", as_written(body, &document.to_string())))
}

fn zone(zone: &ZoneJson) -> Vec<Wanted> {
    let dwell = i64::try_from(zone.min_dwell_ms).unwrap_or(i64::MAX);
    vec![
        ("name", Some(zone.name.as_str().into())),
        ("points", Some(points(&zone.points))),
        ("labels", labels(&zone.labels)),
        ("min_dwell_ms", (dwell != 0).then(|| dwell.into())),
    ]
}

fn line(line: &LineJson) -> Vec<Wanted> {
    vec![
        ("name", Some(line.name.as_str().into())),
        ("from", Some(point(&line.from))),
        ("to", Some(point(&line.to))),
        ("labels", labels(&line.labels)),
    ]
}

fn mask(mask: &MaskJson) -> Vec<Wanted> {
    vec![
        ("points", Some(points(&mask.points))),
        ("labels", labels(&mask.labels)),
    ]
}

fn points(points: &[[f64; 2]]) -> Value {
    points.iter().map(point).collect::<Array>().into()
}

fn point(point: &[f64; 2]) -> Value {
    point.iter().copied().collect::<Array>().into()
}

fn labels(labels: &[String]) -> Option<Value> {
    let all = || labels.iter().map(String::as_str).collect::<Array>().into();
    (!labels.is_empty()).then(all)
}

/// The section of a camera.
struct Section<'a> {
    table: &'a mut dyn TableLike,
    /// It is one of a list in brackets.
    is_inline: bool,
    /// The name of the stream, if it gives one.
    stream: Option<String>,
}

/// Finds the section of a camera.
fn section<'a>(document: &'a mut DocumentMut, camera: &StreamId) -> Result<Section<'a>, EditError> {
    let text = |table: &dyn TableLike, key: &str| {
        let value = table.get(key).and_then(Item::as_str);
        value.map(str::to_owned)
    };
    let sections: Vec<(&mut dyn TableLike, bool)> = match document.get_mut("cameras") {
        Some(Item::ArrayOfTables(tables)) => tables
            .iter_mut()
            .map(|table| (table as &mut dyn TableLike, false))
            .collect(),
        Some(Item::Value(Value::Array(tables))) => tables
            .iter_mut()
            .filter_map(|value| Some((value.as_inline_table_mut()? as &mut dyn TableLike, true)))
            .collect(),
        _ => Vec::new(),
    };
    let mut of_twin: Vec<Section<'a>> = sections
        .into_iter()
        .filter(|(table, _)| text(*table, "twin_id").as_deref() == Some(&*camera.twin_id))
        .map(|(table, is_inline)| Section {
            stream: text(table, "stream"),
            table,
            is_inline,
        })
        .collect();
    // One without a name of its own has that of `[defaults]`, which a variable or the hub may give: then it is the one that is left.
    let is_named = |section: &Section<'_>| section.stream.as_deref() == Some(&*camera.stream);
    if of_twin.iter().any(is_named) {
        of_twin.retain(is_named);
    } else {
        of_twin.retain(|section| section.stream.is_none());
    }
    let found = of_twin.len();
    match (of_twin.pop(), found) {
        (Some(section), 1) => Ok(section),
        (None, _) => Err(EditError::NoSection {
            twin_id: camera.twin_id.to_string(),
            stream: camera.stream.to_string(),
        }),
        (Some(_), _) => Err(EditError::SeveralSections {
            twin_id: camera.twin_id.to_string(),
            stream: camera.stream.to_string(),
            found,
        }),
    }
}

/// Makes the tables of a kind those that are wanted. `keys` are that of the section and the one that people write.
fn write(
    section: &mut dyn TableLike,
    is_inline: bool,
    keys: (&'static str, &'static str),
    wanted: Vec<Vec<Wanted>>,
) -> Result<(), EditError> {
    let (key, shown) = keys;
    if wanted.is_empty() {
        section.remove(key);
        return Ok(());
    }
    match section.get_mut(key) {
        None if is_inline => {
            let array = with(Array::new(), wanted);
            section.insert(key, Item::Value(array.into()));
        }
        None => {
            let tables = with_tables(&ArrayOfTables::new(), wanted);
            section.insert(key, Item::ArrayOfTables(tables));
        }
        Some(Item::ArrayOfTables(tables)) => *tables = with_tables(tables, wanted),
        Some(Item::Value(Value::Array(array))) if array.iter().all(Value::is_inline_table) => {
            let before = std::mem::take(array);
            *array = with(before, wanted);
        }
        Some(_) => return Err(EditError::NoTables { key: shown }),
    }
    Ok(())
}

/// The tables `[[cameras.zones]]` and the like, with those that were there as far as they stay.
fn with_tables(before: &ArrayOfTables, wanted: Vec<Vec<Wanted>>) -> ArrayOfTables {
    let known: Vec<&Table> = before.iter().collect();
    let kept = partners(&known, &wanted);
    // Tables are written in the order of their positions in the text. Those that stay share the positions that they had.
    let mut positions: Vec<isize> = kept
        .iter()
        .flatten()
        .filter_map(|at| known[*at].position())
        .collect();
    positions.sort_unstable();
    let mut positions = positions.into_iter();
    let mut tables = ArrayOfTables::new();
    for (wanted, kept) in wanted.into_iter().zip(kept) {
        let mut table = match kept {
            Some(at) => {
                let mut table = known[at].clone();
                table.set_position(positions.next());
                table
            }
            None => Table::new(),
        };
        set(&mut table, wanted);
        tables.push(table);
    }
    tables
}

/// The same for a list of inline tables.
fn with(before: Array, wanted: Vec<Vec<Wanted>>) -> Array {
    let known: Vec<&InlineTable> = before.iter().filter_map(Value::as_inline_table).collect();
    let kept = partners(&known, &wanted);
    let mut array = before.clone();
    array.clear();
    // A new one stands as the last one did.
    let last = known.last().map(|table| table.decor().clone());
    for (wanted, kept) in wanted.into_iter().zip(kept) {
        let mut table = kept.map_or_else(InlineTable::new, |at| known[at].clone());
        set(&mut table, wanted);
        match (kept, &last) {
            (None, Some(decor)) => *table.decor_mut() = decor.clone(),
            // The first one follows the bracket, and what followed another one follows a comma.
            (None, None) if !array.is_empty() => table.decor_mut().set_prefix(" "),
            _ => {}
        }
        array.push_formatted(table.into());
    }
    array
}

/// Which of the tables that are there becomes which of the wanted ones: that of the same name, or the one at the same place, which has a
/// new name. Masks have no name: what is left of them is taken in order.
fn partners<T: TableLike>(known: &[&T], wanted: &[Vec<Wanted>]) -> Vec<Option<usize>> {
    let mut partners = vec![None; wanted.len()];
    let mut take = |is_like: &dyn Fn(&T, &[Wanted]) -> bool| {
        for (n, wanted) in wanted.iter().enumerate() {
            if partners[n].is_some() {
                continue;
            }
            let free = |at: &usize| !partners.contains(&Some(*at));
            let like = (0..known.len())
                .filter(free)
                .find(|at| is_like(known[*at], wanted));
            partners[n] = like;
        }
    };
    let has = |table: &T, wanted: &[Wanted], name: &str| {
        let mut keys = wanted.iter().filter(|(key, _)| *key == name);
        keys.any(|(key, value)| is(table.get(key), value.as_ref()))
    };
    let is_named = |wanted: &[Wanted]| wanted[0].0 == "name";
    take(&|table, wanted| is_named(wanted) && has(table, wanted, "name"));
    take(&|table, wanted| {
        let places = ["points", "from", "to"];
        let mut keys = wanted.iter().filter(|(key, _)| places.contains(key));
        keys.all(|(key, _)| has(table, wanted, key))
    });
    take(&|_, wanted| !is_named(wanted));
    partners
}

/// Gives a table these values. What is the same stays as it is written.
fn set(table: &mut dyn TableLike, wanted: Vec<Wanted>) {
    for (key, wanted) in wanted {
        if is(table.get(key), wanted.as_ref()) {
            continue;
        }
        match (table.get_mut(key), wanted) {
            (Some(Item::Value(value)), Some(mut wanted)) => {
                *wanted.decor_mut() = value.decor().clone();
                *value = wanted;
            }
            (_, Some(wanted)) => {
                table.insert(key, Item::Value(wanted));
            }
            (_, None) => {
                table.remove(key);
            }
        }
    }
}

/// True if what is written means the same as what is wanted.
fn is(written: Option<&Item>, wanted: Option<&Value>) -> bool {
    let written = written.and_then(Item::as_value);
    match (written, wanted) {
        (Some(written), Some(wanted)) => same(written, wanted),
        (None, None) => true,
        // Neither labels nor a time: that is what the key means where it is left out.
        (Some(Value::Array(labels)), None) => labels.is_empty(),
        (Some(time), None) => time.as_integer() == Some(0),
        (None, Some(_)) => false,
    }
}

fn same(written: &Value, wanted: &Value) -> bool {
    /// Numbers are asked for with four decimals.
    const ROUNDING: f64 = 0.000_051;
    #[expect(
        clippy::cast_precision_loss,
        reason = "places in the picture are 0 or 1 if they are whole, and times are short"
    )]
    let number = |value: &Value| {
        let whole = value.as_integer().map(|number| number as f64);
        value.as_float().or(whole)
    };
    match (written, wanted) {
        (Value::Array(written), Value::Array(wanted)) => {
            let mut pairs = written.iter().zip(wanted);
            written.len() == wanted.len() && pairs.all(|(written, wanted)| same(written, wanted))
        }
        (Value::String(written), Value::String(wanted)) => written.value() == wanted.value(),
        _ => match (number(written), number(wanted)) {
            (Some(written), Some(wanted)) => (written - wanted).abs() < ROUNDING,
            _ => false,
        },
    }
}

/// The new text, with the line ends of the old one. What is the same from the first line on, and from the last line on, is taken from the
/// old text byte for byte.
fn as_written(old: &str, new: &str) -> String {
    fn lines(text: &str) -> Vec<&str> {
        text.split_inclusive('\n').collect()
    }
    let same = |old: &str, new: &str| match (old.strip_suffix('\n'), new.strip_suffix('\n')) {
        (Some(old), Some(new)) => old.strip_suffix('\r').unwrap_or(old) == new,
        (None, None) => old == new,
        _ => false,
    };
    let (old, new) = (lines(old), lines(new));
    let pairs = old.iter().zip(&new);
    let first = pairs.take_while(|(old, new)| same(old, new)).count();
    let rest = old[first..].iter().rev().zip(new[first..].iter().rev());
    let last = rest.take_while(|(old, new)| same(old, new)).count();
    let with_cr = old.iter().filter(|line| line.ends_with("\r\n")).count();
    let middle = new[first..new.len() - last].concat();
    let middle = match 2 * with_cr > old.len() {
        true => middle.replace('\n', "\r\n"),
        false => middle,
    };
    [
        &old[..first].concat(),
        &*middle,
        &old[old.len() - last..].concat(),
    ]
    .concat()
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
