//! IP cameras by RTSP.

use crate::bridge::source::SourceHandler;
use crate::config::RtspConfig;

pub(super) async fn run(
    _config: RtspConfig,
    _handler: SourceHandler,
    stop: impl Future<Output = ()> + Send,
) {
    stop.await;
}
