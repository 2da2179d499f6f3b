//! Video devices of this machine (V4L2).

use std::path::PathBuf;

use crate::bridge::source::SourceHandler;

pub(super) async fn run(
    _path: PathBuf,
    _handler: SourceHandler,
    stop: impl Future<Output = ()> + Send,
) {
    stop.await;
}
