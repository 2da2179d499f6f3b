//! Counts which execution provider has how many operations of a model. A session that was built with [`RECORD`] comes in.
#![expect(
    unsafe_code,
    reason = "ort has no safe function that tells which provider has an operation"
)]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;

use ort::session::Session;
use ort::{AsPointer, ortsys};

/// The setting with which a session remembers what is asked for here.
pub(super) const RECORD: (&str, &str) = ("session.record_ep_graph_assignment_info", "1");

/// Counts a model's operations by the provider that has them, which goes by ONNX Runtime's name.
///
/// # Errors
/// If the session was built without [`RECORD`].
pub(super) fn operations(session: &Session) -> ort::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    let mut parts = ptr::null();
    let mut number_of_parts = 0;
    ortsys![unsafe Session_GetEpGraphAssignmentInfo(session.ptr(), &mut parts, &mut number_of_parts)?];
    for place in 0..number_of_parts {
        // SAFETY: ONNX Runtime has written an array of so many pointers, and it lives as long as the session.
        let part = unsafe { *parts.add(place) };
        let (mut name, mut nodes, mut number_of_nodes) = (ptr::null(), ptr::null(), 0);
        ortsys![unsafe EpAssignedSubgraph_GetEpName(part, &mut name)?];
        ortsys![unsafe EpAssignedSubgraph_GetNodes(part, &mut nodes, &mut number_of_nodes)?];
        // SAFETY: it is a C string of ONNX Runtime's, which lives as long as the session.
        let name = unsafe { CStr::from_ptr(name) };
        *counts
            .entry(name.to_string_lossy().into_owned())
            .or_default() += number_of_nodes;
    }
    Ok(counts)
}
