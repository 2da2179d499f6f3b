//! The stage between postprocess and publish: the objects of a frame come in, and go out with the tracks that they are of, with
//! what there is to tell. It puts `media_clock`, `tracker` and `scene` in a row.
