//! Changes of zones, lines and masks over HTTP. A request comes in, is refused unless it may change anything, and goes to the task that
//! follows the configuration; what came of it goes out once it is in force.

use std::sync::Arc;

use parking_lot::Mutex;

/// Why nothing is changed where it is not allowed.
const OFF: &str = "zones, lines and masks are not changed over HTTP: set `http.edit = true` in the configuration and restart the node, or edit the file";

/// Why nothing is changed where nobody can prove who they are.
const NO_TOKEN: &str = "zones, lines and masks are changed over HTTP by those alone who bear a token, and this node has none: set `http.token_file` and restart the node";

/// Why nothing is changed without a file.
const NO_FILE: &str = "this node was started without a configuration file, so that no change could be kept: start it with `--config FILE`";

/// Takes changes to whoever makes them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SceneEditor(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    refusal: Option<&'static str>,
}

impl Default for State {
    fn default() -> Self {
        Self { refusal: Some(OFF) }
    }
}

impl SceneEditor {
    /// Why nothing may be changed, and what to do about it. `None` where it may.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        self.0.lock().refusal
    }
}
