//! Keyframes that are lost, slow or come after a silence.

use super::*;

#[test]
fn sets_that_came_once_are_remembered_when_the_first_picture_is_lost() {
    let stream = units(stream!("sets_once_first_idr_lost").1);
    let mut camera = Camera::new();
    camera.play(&stream, normal);
    assert_greys("the picture never came", &camera.greys, &GREYS[4..]);
    camera.close();
    // Lost on the way, whole or in part, with the sets in its unit.
    for lost in [3, 4] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        for (i, payload) in all_fragments(&all[0]).iter().enumerate() {
            if i >= lost {
                camera.sequence = camera.sequence.wrapping_add(1);
            } else {
                camera.packet(payload, false);
            }
        }
        camera.timestamp = camera.timestamp.wrapping_add(7200);
        camera.play(&all[1..4], normal);
        let without_sets: Nals = all[4].iter().filter(|nal| !is_set(nal)).cloned().collect();
        camera.play(&[without_sets], normal);
        camera.play(&all[5..], normal);
        assert_greys("the picture was lost", &camera.greys, &GREYS[4..]);
        camera.close();
    }
}

#[test]
fn a_keyframe_that_takes_its_time_is_decoded_and_nobody_is_late() {
    for how in [normal as How, no_marker] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        // The stream begins in the middle, so that a keyframe is asked for.
        camera.play(&all[1..2], how);
        let mut expected = Vec::new();
        for _ in 0..3 {
            for (unit, grey) in all.iter().zip(GREYS) {
                // A keyframe has five packets here, and takes 800 ms.
                let payloads = how(unit);
                for (payload, marker) in payloads {
                    camera.packet(&payload, marker);
                    camera.pause(if is_key(unit) { 2 * FRAME } else { FRAME / 4 });
                }
                camera.timestamp = camera.timestamp.wrapping_add(7200);
                expected.push(grey);
            }
        }
        camera.play(&all[..1], how);
        let came = camera.greys.len();
        assert_greys("slow", &camera.greys[..21], &expected);
        assert!(came <= 22);
        assert!(
            camera.ages.iter().any(|age| *age > MAX_BACKLOG),
            "{:?}",
            camera.ages
        );
        assert_eq!(camera.dropped(UnitDrop::DecodeBacklog), 0);
        assert!(camera.shed.is_empty(), "{:?}", camera.shed);
        // While the keyframe came, no other one was asked for.
        assert_eq!(camera.requests.len(), 1);
        camera.close();
    }
}

#[test]
fn a_keyframe_that_stops_coming_is_asked_for_again() {
    let mut camera = Camera::new();
    let all = units(CTRL.1);
    camera.play(&all[1..2], normal);
    assert_eq!(camera.requests.len(), 1);
    let payloads = normal(&all[0]);
    let began = camera.now;
    for (payload, _) in &payloads[..payloads.len() - 1] {
        camera.packet(payload, false);
    }
    camera.pause(Duration::from_secs(1));
    assert_eq!(camera.requests[1], began + KEYFRAME_PAUSE);
    // One that goes on for ever is no keyframe.
    let asked = camera.requests.len();
    for _ in 0..150 {
        camera.packet(&[0x7c, 5, 9], false);
        camera.pause(Duration::from_millis(100));
    }
    assert!(camera.requests.len() > asked);
    camera.close();
}

#[test]
fn a_source_that_was_silent_and_begins_anew_is_not_late() {
    for ssrc_changes in [true, false] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        camera.play(&all, normal);
        camera.packet(&normal(&all[0])[0].0, false);
        camera.pause(Duration::from_secs(4));
        if ssrc_changes {
            camera.sequence = camera.sequence.wrapping_add(20_000);
        }
        camera.timestamp = camera.timestamp.wrapping_add(360_000);
        camera.play(&all, normal);
        assert!(camera.shed.is_empty(), "{:?}", camera.shed);
        assert_eq!(camera.greys.len(), 14);
        camera.close();
    }
}
