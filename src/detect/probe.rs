//! A model file without a manifest: its bytes come in; what it says of itself, and its outputs on a picture that is prepared by any
//! input's table, go out. `twinsight model add` looks at new models with it, and `model show` at those that are installed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::judge::{self, TestPicture};
use super::manifest::file::InputTable;
use super::manifest::{Element, ModelError};
use super::onnx::watched;
use super::providers::Providers;
use super::recognize::{Run, trial_manifest};
use super::runtime::Runtime;
use super::session::{self, Inspected, ModelSession};

/// A model file that is looked at.
pub(crate) struct Probe {
    path: PathBuf,
    inspected: Inspected,
    state: State,
}

/// What of ONNX Runtime there is.
enum State {
    /// The session is loaded and has not run.
    Loaded(Box<ort::session::Session>),
    /// It has run.
    Ready(Box<ModelSession>),
    /// It could not be made ready.
    Broken,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads the model at `path`, whose bytes these are.
    ///
    /// # Errors
    /// If ONNX Runtime does not take it.
    pub(crate) fn new(runtime: &Runtime, path: &Path, model: &[u8]) -> Result<Self, ModelError> {
        let providers = Providers::choose(&[], runtime)?;
        let (session, _) = session::build(runtime, &providers, path, model)?;
        Ok(Self {
            path: path.to_owned(),
            inspected: session::inspect(&session),
            state: State::Loaded(Box::new(session)),
        })
    }

    /// What the file says of itself.
    pub(crate) fn inspected(&self) -> &Inspected {
        &self.inspected
    }

    /// Runs the model on a picture and its mirror image.
    ///
    /// # Errors
    /// If the input is not as the table says, or a run fails.
    pub(crate) fn run(
        &mut self,
        input: &InputTable,
        picture: &TestPicture,
    ) -> Result<Run, ModelError> {
        let manifest = trial_manifest(&self.inspected, input, &self.path)?;
        let mut session = match std::mem::replace(&mut self.state, State::Broken) {
            State::Loaded(session) => Box::new(ModelSession::new(*session, &manifest, &self.path)?),
            State::Ready(session) => session,
            State::Broken => {
                return Err(ModelError::Session {
                    path: self.path.clone(),
                    reason: "it could not be made ready for a run".to_owned(),
                });
            }
        };
        let outcome = session
            .refit(&manifest, &self.path)
            .and_then(|()| self.run_session(&mut session, picture));
        self.state = State::Ready(session);
        outcome
    }

    fn run_session(
        &self,
        session: &mut ModelSession,
        picture: &TestPicture,
    ) -> Result<Run, ModelError> {
        let name: Arc<str> = "model".into();
        let names: Vec<&str> = self
            .inspected
            .outputs
            .iter()
            .filter(|outlet| !matches!(outlet.element, Element::Other(_)))
            .map(|outlet| outlet.name.as_str())
            .collect();
        let failed = |error: super::DetectError| ModelError::Session {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let run_options = Arc::clone(session.run_options());
        watched(&run_options, || {
            let ((first, placement), _) = session
                .run(&name, &picture.as_it_is(), &names, |arrays, placement| {
                    (judge::copy(arrays), *placement)
                })
                .map_err(failed)?;
            let (mirrored, _) = session
                .run(&name, &picture.mirrored(), &names, |arrays, _| {
                    judge::copy(arrays)
                })
                .map_err(failed)?;
            Ok(Run {
                first,
                mirrored,
                placement,
            })
        })
    }
}
