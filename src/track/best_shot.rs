//! The picture in which a track was seen best: frames and boxes come in as tracks are seen, and the crop of the best one is kept
//! in memory, within bounds, for whoever asks by HTTP.
