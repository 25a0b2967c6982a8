//! `flame`: draws a capture that is posted to it.
//!
//! | parameter | meaning |
//! |---|---|
//! | `value=inuse_space` | which of the profile's values; without it the one that the profile shows first |
//! | `label=tenant=acme & state=waiting` | only samples with all these labels; `label=tenant` takes any value |
//! | `before=N` | the first N bytes of the body are another profile, with which the rest is compared |
//! | `scale=1` | when comparing, the other profile's numbers are scaled to the same total |
//! | `widths=before` | when comparing, the widths are those of the other profile, so that what has gone is seen |
//!
//! The answer is JSON: the picture, which is a document of its own when it is saved; the functions with the largest values; and what the
//! page's choices can be.
//!
//! Profiles are bounded, packed and unpacked.

mod draw;
mod labels;
mod stacks;

use serde_json::{Value, json};

use super::drawing::Drawing;
use crate::{
    http::Query,
    profile::{encode, proto},
};
use labels::Filter;
use stacks::{Column, Stacks};

/// The most bytes that may be posted: two profiles of the largest programs that we have seen are a tenth of it.
const MAX_BODY: usize = 16 << 20;

/// The most bytes of a profile when it is unpacked. Decoded, that may be 36 times as much, of samples that are empty.
const MAX_PLAIN: usize = 32 << 20;

pub(super) static FLAME: Drawing = Drawing::new("/debug/pprof/ui/flame", "a profile", MAX_BODY, flame);

fn flame(query: &Query, body: &[u8]) -> Result<Value, String> {
    let length = match query.get("before") {
        None => 0,
        Some(text) => text.parse().ok().filter(|&length| length <= body.len()).ok_or_else(|| {
            format!("invalid value for \"before\" - must be a number of bytes, at most the {} of the body", body.len())
        })?,
    };
    let (before, after) = body.split_at(length);
    let after = decode(after)?;
    let before = if length > 0 { Some(decode(before)?) } else { None };
    let filter = Filter::parse(query.get("label").unwrap_or(""))?;
    let column = Column::choose(&after, query.get("value"))?;
    let stacks = Stacks::of(&after, &column, &filter)?;
    let other = match &before {
        None => None,
        Some(before) => Some(Stacks::of(before, &Column::same(before, &column)?, &filter)?),
    };
    let compared = other.as_ref().map(|other| draw::Compared {
        other,
        scaled: query.get("scale") == Some("1"),
        widths_of_other: query.get("widths") == Some("before"),
    });
    Ok(json!({
        "values": Column::all(&after).iter().map(|it| json!({ "kind": it.kind, "unit": it.unit })).collect::<Vec<_>>(),
        "value": { "kind": column.kind, "unit": column.unit },
        "total": stacks.total,
        "total_before": other.as_ref().map(|other| other.total),
        "samples": stacks.samples,
        "negative_samples": stacks.negative,
        "labels": labels::values(&after, &column),
        "comments": after.comment.iter().map(|&comment| stacks::text(&after, comment)).collect::<Vec<_>>(),
        "time_nanoseconds": after.time_nanos,
        "duration_nanoseconds": after.duration_nanos,
        "top": stacks.top(),
        "svg": draw::svg(&stacks, compared, &column)?,
    }))
}

fn decode(bytes: &[u8]) -> Result<proto::Profile, String> {
    encode::decode_at_most(bytes, MAX_PLAIN).map_err(|error| error.to_string())
}
