//! stub
use crate::telemetry::metrics::Metrics;
use bytes::Bytes;
use std::sync::Arc;
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::PictureSize;
#[derive(Debug, Clone)]
pub struct Previews;
#[derive(Debug)]
pub struct Watch;
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    pub width_px: Option<u32>,
    pub boxes: bool,
    pub max_fps: f64,
}
#[derive(Debug, Clone)]
pub struct Picture {
    pub id: StreamId,
    pub jpeg: Bytes,
    pub sequence: Option<u64>,
    pub frame_size: PictureSize,
}
impl Previews {
    pub fn new(_: Arc<Metrics>) -> Self {
        Self
    }
    pub fn watchers(&self) -> usize {
        0
    }
    pub fn watch(
        &self,
        _: &StreamId,
        _: WatchOptions,
    ) -> Result<Watch, crate::publish::feed::TooManyWatchers> {
        Ok(Watch)
    }
    pub fn watch_many(
        &self,
        _: Vec<StreamId>,
        _: WatchOptions,
    ) -> Result<Watch, crate::publish::feed::TooManyWatchers> {
        Ok(Watch)
    }
}
impl Watch {
    pub async fn next(&mut self) -> Picture {
        std::future::pending().await
    }
}
