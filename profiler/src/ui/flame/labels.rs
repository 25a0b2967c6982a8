//! Labels: which samples are shown, and what there is to choose from.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::stacks::{Column, text};
use crate::profile::proto;

/// What joins two conditions. With blanks, so that values may have the character.
const AND: &str = " & ";

/// How many keys, and how many values of each, the page is told. Labels with a value of its own for every request have
/// more, and nobody chooses from a list of thousands.
const MAX_KEYS: usize = 50;
const MAX_VALUES: usize = 100;

/// The label of a sample as it is shown; a number with its unit.
fn shown(profile: &proto::Profile, label: &proto::Label) -> String {
    match label.str {
        0 => format!("{}{}", label.num, text(profile, label.num_unit)),
        index => text(profile, index).to_owned(),
    }
}

/// Conditions that a sample must meet, all of them: a key, and perhaps its value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<(String, Option<String>)>);

impl Filter {
    /// Reads `KEY=VALUE`, `KEY`, or several of them with ` & ` between.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(filter: &str) -> Result<Self, String> {
        if filter.trim().is_empty() {
            return Ok(Self::default());
        }
        let parts = filter.split(AND).map(|part| {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim().to_owned())),
                None => (part.trim(), None),
            };
            if key.is_empty() {
                return Err(format!("{filter:?} is no filter: write KEY=VALUE, and {AND:?} between several"));
            }
            Ok((key.to_owned(), value))
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a sample is shown.
    pub fn passes(&self, profile: &proto::Profile, sample: &proto::Sample) -> bool {
        self.0.iter().all(|(key, value)| {
            let mut same_key = sample.label.iter().filter(|label| text(profile, label.key) == key);
            match value {
                None => same_key.next().is_some(),
                Some(value) => same_key.any(|label| shown(profile, label) == *value),
            }
        })
    }
}

/// All labels with what each value stands for, largest first.
pub(super) fn values(profile: &proto::Profile, column: &Column) -> Value {
    let mut keys: BTreeMap<&str, BTreeMap<String, i64>> = BTreeMap::new();
    for sample in &profile.sample {
        for label in &sample.label {
            let values = keys.entry(text(profile, label.key)).or_default();
            let sum = values.entry(shown(profile, label)).or_default();
            *sum = sum.saturating_add(column.of(sample));
        }
    }
    let listed = keys.into_iter().take(MAX_KEYS).map(|(key, values)| {
        let mut values: Vec<(String, i64)> = values.into_iter().collect();
        let all = values.len();
        values.sort_by_key(|&(_, sum)| std::cmp::Reverse(sum));
        values.truncate(MAX_VALUES);
        let values: Vec<Value> = values.into_iter().map(|(value, sum)| json!({ "value": value, "sum": sum })).collect();
        (key.to_owned(), json!({ "count": all, "values": values }))
    });
    Value::Object(listed.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> proto::Profile {
        let table = ["", "tenant", "acme", "bytes", "a & b=c"];
        proto::Profile { string_table: table.map(str::to_owned).to_vec(), ..Default::default() }
    }

    fn sample(label: Vec<proto::Label>) -> proto::Sample {
        proto::Sample { label, value: vec![5], ..Default::default() }
    }

    #[test]
    fn all_conditions_must_hold() {
        let profile = profile();
        let tenant = proto::Label { key: 1, str: 2, ..Default::default() };
        let size = proto::Label { key: 3, num: 512, num_unit: 3, ..Default::default() };
        let both = sample(vec![tenant, size]);
        for (filter, passes) in [
            ("", true),
            ("tenant=acme", true),
            (" tenant = acme ", true),
            ("tenant", true),
            ("tenant=ac", false),
            ("tenant=", false),
            ("Tenant=acme", false),
            ("bytes=512bytes", true),
            ("bytes=512", false),
            ("tenant=acme & bytes", true),
            ("tenant=acme & route", false),
            ("route", false),
        ] {
            assert_eq!(Filter::parse(filter).expect("a filter").passes(&profile, &both), passes, "{filter:?}");
        }
        for bad in ["=", "=acme", "tenant=acme & ", "tenant & =x"] {
            let message = Filter::parse(bad).expect_err(bad);
            assert!(message.contains("write KEY=VALUE"), "{message}");
        }
    }

    #[test]
    fn indices_that_lead_nowhere_are_empty_names() {
        let profile = profile();
        let bad = sample(vec![proto::Label { key: -1, str: 99, num: 0, num_unit: i64::MAX }]);
        assert!(!Filter::parse("tenant").expect("a filter").passes(&profile, &bad));
        let column = Column::choose(
            &proto::Profile { sample_type: vec![proto::ValueType { r#type: 77, unit: -3 }], ..profile.clone() },
            None,
        )
        .expect("the only one");
        let with = proto::Profile { sample: vec![bad], ..profile };
        assert_eq!(values(&with, &column), json!({ "": { "count": 1, "values": [{ "value": "", "sum": 5 }] } }));
    }
}
