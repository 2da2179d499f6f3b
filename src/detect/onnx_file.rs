//! A check of an ONNX file (a protobuf `ModelProto`) before ONNX Runtime gets it: the file's bytes come in, and whether it
//! keeps tensors in other files goes out. Any bytes are safe. The manifest's reader runs it.

/// How deep messages may be nested: graphs stand in attributes of nodes of graphs.
const MAX_DEPTH: usize = 64;

/// The messages of `onnx.proto` that lead to tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Function,
    Tensor,
}

/// The error for bytes that are no protobuf.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotProtobuf;

/// True if a tensor of the model has `data_location = EXTERNAL`.
pub(super) fn has_external_data(file: &[u8]) -> Result<bool, NotProtobuf> {
    search(Message::Model, file, 0)
}

fn search(message: Message, mut bytes: &[u8], depth: usize) -> Result<bool, NotProtobuf> {
    if depth > MAX_DEPTH {
        return Err(NotProtobuf);
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = key >> 3;
        match key & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                // This is TensorProto.data_location, where 1 stands for EXTERNAL.
                if message == Message::Tensor && field == 14 && value == 1 {
                    return Ok(true);
                }
            }
            1 => skip(&mut bytes, 8)?,
            5 => skip(&mut bytes, 4)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| NotProtobuf)?;
                let (inside, rest) = bytes.split_at_checked(length).ok_or(NotProtobuf)?;
                bytes = rest;
                if let Some(child) = child(message, field)
                    && search(child, inside, depth + 1)?
                {
                    return Ok(true);
                }
            }
            _ => return Err(NotProtobuf),
        }
    }
    Ok(false)
}

/// The message that a field holds, by the numbers of `onnx.proto`.
fn child(message: Message, field: u64) -> Option<Message> {
    Some(match (message, field) {
        (Message::Model, 7) => Message::Graph,
        (Message::Model, 25) => Message::Function,
        (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
        (Message::Graph, 5) => Message::Tensor,
        (Message::Graph, 15) => Message::SparseTensor,
        (Message::Node, 5) => Message::Attribute,
        (Message::Attribute, 5 | 10) => Message::Tensor,
        (Message::Attribute, 6 | 11) => Message::Graph,
        (Message::Attribute, 22 | 23) => Message::SparseTensor,
        (Message::SparseTensor, 1 | 2) => Message::Tensor,
        _ => return None,
    })
}

fn varint(bytes: &mut &[u8]) -> Result<u64, NotProtobuf> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(NotProtobuf)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotProtobuf)
}

fn skip(bytes: &mut &[u8], count: usize) -> Result<(), NotProtobuf> {
    *bytes = bytes.get(count..).ok_or(NotProtobuf)?;
    Ok(())
}

#[cfg(test)]
pub(super) mod testing {
    /// Writes a length-delimited field.
    pub(in super::super) fn field(number: u8, inside: &[u8]) -> Vec<u8> {
        let length = u8::try_from(inside.len()).expect("short");
        assert!(length < 128 && number < 16);
        [&[number << 3 | 2, length], inside].concat()
    }

    /// Writes a model with one initializer, which is in the file or in another one.
    pub(in super::super) fn model(external: bool) -> Vec<u8> {
        let location = [14 << 3, u8::from(external)];
        field(7, &field(5, &[&field(9, b"abcd")[..], &location].concat()))
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of a test"
)]
mod tests {
    use super::testing::{field, model};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_external_tensors_of_graphs_and_of_constants() {
        assert_eq!(has_external_data(&model(false)), Ok(false));
        assert_eq!(has_external_data(&model(true)), Ok(true));
        let constant =
            |location: u8| field(7, &field(1, &field(5, &field(5, &[14 << 3, location]))));
        assert_eq!(has_external_data(&constant(1)), Ok(true));
        assert_eq!(has_external_data(&constant(0)), Ok(false));
    }

    #[test]
    fn nesting_has_an_end() {
        // A graph in an attribute of a node of a graph, and so on.
        let mut bytes = Vec::new();
        for _ in 0..MAX_DEPTH {
            // Written from the inside out.
            for number in [6u8, 5, 1] {
                let mut length = Vec::new();
                let mut left = bytes.len();
                while left > 127 {
                    length.push((left & 127) as u8 | 128);
                    left >>= 7;
                }
                length.push(left as u8);
                bytes = [&[number << 3 | 2][..], &length, &bytes].concat();
            }
        }
        assert_eq!(search(Message::Graph, &bytes, 0), Err(NotProtobuf));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = has_external_data(&bytes);
        }
    }
}
