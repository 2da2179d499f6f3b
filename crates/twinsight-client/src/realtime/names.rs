//! Checks of the names that callers give: a twin's id, and the name of a channel or stream.

/// The longest twin id and name of a channel or stream, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// What is wrong with a twin's id, if anything is.
pub(crate) fn check_twin(twin_id: &str, own: &str) -> Result<(), &'static str> {
    if twin_id.is_empty() {
        return Err("the twin's id is empty");
    }
    if twin_id.len() > MAX_NAME_BYTES {
        return Err("no twin's id is longer than 256 bytes");
    }
    if twin_id == own {
        return Err("it is this app's own twin");
    }
    Ok(())
}

/// What is wrong with the name of a channel or stream, if anything is.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("a channel's name has 1 to 256 bytes");
    }
    Ok(())
}

/// The first 64 characters of a twin's id, for a sentence in the log or an error.
pub fn shortened(twin_id: &str) -> String {
    twin_id.chars().take(64).collect()
}
