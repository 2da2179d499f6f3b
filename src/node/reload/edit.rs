//! Changes of zones, lines and masks that somebody asks for over HTTP. A change comes in; it is made in the text of the file, which is
//! checked as at a reload, written, and applied. If anything is wrong with it, nothing is written. The reload's task runs it, so that
//! no other change of the configuration comes between.

use tokio_util::sync::CancellationToken;

use super::write_file::write_file;
use super::{AttemptOutcome, Chosen, Reload, Reloaded, Trigger, WatchedFile, read_again};
use crate::config::{Config, ConfigError, ConfigSource, SceneJson};
use crate::http::scene_edit::{EditRefusal, MeantFor, SceneChange};
use std::time::SystemTime;
use twinsight_client::stream_id::StreamId;

/// What a change would make of the configuration.
enum Edit {
    /// Nothing: it is like that.
    Nothing,
    /// This.
    Change(Box<Chosen>),
}

impl Reload {
    /// Makes a change, and answers whoever asked for it.
    pub(super) async fn change(&mut self, change: SceneChange, stop: &CancellationToken) {
        let SceneChange {
            camera,
            scene,
            meant_for,
            answer,
        } = change;
        // A file system that hangs must not hold up the node's end.
        let written = tokio::select! {
            () = stop.cancelled() => return,
            written = self.write(&camera, &scene, &meant_for) => written,
        };
        let outcome = match written {
            Ok(Edit::Nothing) => Ok(()),
            Ok(Edit::Change(chosen)) => {
                tracing::info!(%camera, "zones, lines and masks were changed over HTTP");
                self.put_in_force(*chosen).await
            }
            Err(refusal) => Err(refusal),
        };
        // Whoever asked may have stopped waiting.
        let _ = answer.send(outcome);
    }

    async fn put_in_force(&mut self, chosen: Chosen) -> Result<(), EditRefusal> {
        self.file = WatchedFile::new(Ok(chosen.file.clone()));
        let outcome = self.apply(Trigger::Asked, chosen, false).await;
        let taken = !matches!(outcome, Reloaded::Refused(_));
        self.metrics.config_reloaded(taken, SystemTime::now());
        match outcome {
            Reloaded::Refused(reason) => Err(EditRefusal::Conflict(format!(
                "the file was written, and is not in force: {reason}"
            ))),
            Reloaded::Applied | Reloaded::Unchanged | Reloaded::Ended => Ok(()),
        }
    }

    /// Checks a change and writes it into the file.
    async fn write(
        &mut self,
        camera: &StreamId,
        scene: &SceneJson,
        meant_for: &MeantFor,
    ) -> Result<Edit, EditRefusal> {
        let conflict = |sentence: String| Err(EditRefusal::Conflict(sentence));
        let (good, settings) = &self.good;
        let Some(path) = good.path() else {
            return conflict("the node was started without a configuration file".to_owned());
        };
        if self.loading.is_some() {
            return conflict(
                "models are being loaded for another change of the configuration: try again in a moment"
                    .to_owned(),
            );
        }
        match read_again(good).await {
            Ok(now) if now.text() == good.text() => {}
            Ok(_) => return conflict(self.is_not_in_force(good)),
            Err(error) => return conflict(error),
        }
        let before = good.resolve(settings).map_err(|error| {
            // Such as a secret's file that is gone.
            EditRefusal::Conflict(error.to_string())
        })?;
        let has = before.cameras.iter().find(|each| each.id == *camera);
        if has.is_some_and(|has| !meant_for.is(&SceneJson::from(&has.scene).tag())) {
            return Err(EditRefusal::Stale(format!(
                "the zones, lines and masks of {camera} are others by now than those of your `If-Match`: look at them again, and send yours \
                 with their `sceneTag`"
            )));
        }
        let edited = match good.edited(camera, scene) {
            Ok(edited) => edited,
            Err(error) => return conflict(error.to_string()),
        };
        if edited.text() == good.text() {
            return Ok(Edit::Nothing);
        }
        let after = match edited.resolve(settings) {
            Ok(config) => config,
            Err(error) => return Err(EditRefusal::Wrong(without_lines(&error))),
        };
        if !is_this_change_alone(before, &after, camera, scene) {
            return conflict(format!(
                "the zones, lines and masks of {camera} do not come from its section of {}: see where in `/api/config`, and change them there",
                path.display()
            ));
        }
        let chosen = match self.attempt(&edited, settings) {
            AttemptOutcome::Ready(chosen) => chosen,
            AttemptOutcome::Refused(reason) => return Err(EditRefusal::Wrong(reason)),
            AttemptOutcome::Needs(_) => {
                return conflict(
                    "models have to be loaded for another change of the configuration: try again in a moment"
                        .to_owned(),
                );
            }
        };
        let (path, old, new) = (
            path.to_owned(),
            good.text().to_owned(),
            edited.text().to_owned(),
        );
        let written = tokio::task::spawn_blocking(move || write_file(&path, &old, &new)).await;
        match written {
            Ok(Ok(())) => Ok(Edit::Change(chosen)),
            Ok(Err(error)) => conflict(error.to_string()),
            Err(error) => conflict(error.to_string()),
        }
    }

    /// The sentence for a file that is another than the one in force.
    fn is_not_in_force(&self, good: &ConfigSource) -> String {
        let path = good.path().unwrap_or_else(|| std::path::Path::new(""));
        match &self.file_error {
            Some(reason) => format!(
                "{} was changed and cannot be used, so that nothing is written into it: {reason}",
                path.display()
            ),
            None => format!(
                "{} was changed a moment ago: look at what is in force now, and try again",
                path.display()
            ),
        }
    }
}

/// What is wrong, without the lines of a text that nobody has seen.
fn without_lines(error: &ConfigError) -> String {
    let sentences = error.sentences();
    let bare = sentences.iter().map(|sentence| {
        let behind = sentence.split_once(" line ").map(|(_, rest)| rest);
        let bare = behind.and_then(|rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.strip_prefix(": ")
        });
        bare.unwrap_or(sentence)
    });
    bare.collect::<Vec<_>>().join("; ")
}

/// True if the two configurations differ by the scene of this camera and by nothing else, and it is the one that was asked for.
fn is_this_change_alone(
    mut before: Config,
    after: &Config,
    camera: &StreamId,
    scene: &SceneJson,
) -> bool {
    let mut cameras = after.cameras.iter();
    let Some(changed) = cameras.find(|each| each.id == *camera) else {
        return false;
    };
    let mut cameras = before.cameras.iter_mut();
    let Some(same) = cameras.find(|each| each.id == *camera) else {
        return false;
    };
    same.scene.clone_from(&changed.scene);
    before == *after && SceneJson::from(&changed.scene).rounded() == *scene
}
