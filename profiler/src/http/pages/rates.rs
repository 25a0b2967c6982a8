//! `/debug/greenprof/rates`: how much each instrument records. GET tells the numbers, POST sets those that it names.

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::http::reply::{self, Reply};
use crate::http::{Ask, Page, Rate, Registry};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) struct RatesPage;

impl Page for RatesPage {
    fn path(&self) -> &str {
        "/debug/greenprof/rates"
    }

    fn description(&self) -> &str {
        "Sampling rates as a JSON object. POST an object with some of its keys to set them."
    }

    fn changes(&self) -> &'static [Method] {
        &[Method::POST]
    }

    fn answer(&self, ask: &Ask) -> Reply {
        if ask.method == Method::POST
            && let Err(message) = set(&ask.registry, &ask.body)
        {
            return reply::error(StatusCode::BAD_REQUEST, message);
        }
        let rates = ask.registry.rates();
        let rates: Map<String, Value> = rates.iter().map(|rate| (rate.name().to_owned(), rate.get().into())).collect();
        reply::reply(StatusCode::OK, JSON, format!("{}\n", Value::Object(rates)))
    }
}

/// Sets all rates that the object names, or none if one of them cannot be set.
fn set(registry: &Registry, body: &[u8]) -> Result<(), String> {
    let asked: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body must be a JSON object of rates: {error}"))?;
    let known = registry.rates();
    let mut changes = Vec::with_capacity(asked.len());
    let mut previous: Vec<(&Arc<dyn Rate>, u64)> = Vec::with_capacity(asked.len());
    for (name, value) in &asked {
        let Some(rate) = known.iter().find(|rate| rate.name() == name) else {
            let names: Vec<&str> = known.iter().map(|rate| rate.name()).collect();
            return Err(format!("there is no rate {name:?}; there are: {}", names.join(", ")));
        };
        let Some(number) = value.as_u64() else {
            return Err(format!("{name:?} must be a whole number, 0 or more: {}", rate.description()));
        };
        rate.check(number).map_err(|message| format!("{name:?} cannot be {number}: {message}"))?;
        changes.push((rate, number));
    }
    for (rate, number) in &changes {
        let before = rate.get();
        if let Err(message) = rate.set(*number) {
            // Those that were set had these numbers before, so they can be set again.
            for (rate, number) in &previous {
                let _ = rate.set(*number);
            }
            return Err(format!("{:?} cannot be {number}: {message}", rate.name()));
        }
        previous.push((rate, before));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Rate;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Number(&'static str, AtomicU64);

    impl Rate for Number {
        fn name(&self) -> &str {
            self.0
        }
        fn description(&self) -> &str {
            "one in so many; 0 is off"
        }
        fn get(&self) -> u64 {
            self.1.load(Ordering::SeqCst)
        }
        fn check(&self, value: u64) -> Result<(), String> {
            if value > 100 { Err("choose at most 100".into()) } else { Ok(()) }
        }
        fn set(&self, value: u64) -> Result<(), String> {
            if value == 99 {
                return Err("not today".into());
            }
            self.1.store(value, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn all_numbers_are_set_or_none() {
        let registry = Registry::new();
        let (one, two) = (Arc::new(Number("one", 1.into())), Arc::new(Number("two", 2.into())));
        registry.register_rate(one.clone()).expect("a new name");
        registry.register_rate(two.clone()).expect("a new name");
        registry.register_rate(one.clone()).expect_err("a name that is taken");
        let both = || (one.get(), two.get());
        set(&registry, br#"{"two": 20}"#).expect("a good number");
        assert_eq!(both(), (1, 20));
        for (body, part) in [
            (r#"{"one": 5, "two": 101}"#, "\"two\" cannot be 101: choose at most 100"),
            (r#"{"one": 5, "three": 1}"#, "there is no rate \"three\"; there are: one, two"),
            (r#"{"one": 5, "two": -1}"#, "\"two\" must be a whole number, 0 or more: one in so many; 0 is off"),
            (r#"{"one": 5, "two": "1"}"#, "must be a whole number"),
            (r#"{"one": 5, "two": 99}"#, "\"two\" cannot be 99: not today"),
            ("[1]", "the body must be a JSON object of rates"),
            ("", "the body must be a JSON object of rates"),
        ] {
            let message = set(&registry, body.as_bytes()).expect_err(body);
            assert!(message.contains(part), "{body}: {message}");
        }
        assert_eq!(both(), (1, 20));
        set(&registry, br#"{"one": 7, "two": 0}"#).expect("good numbers");
        assert_eq!(both(), (7, 0));
    }
}
