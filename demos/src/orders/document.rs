//! The orders as they come in: JSON texts, and what they say once decoded.
//!
//! The texts are those of `data/orders.json`, which the binary carries with it. The load generator hands each order out
//! as the text it has in that file, so that decoding is part of the work of handling it, as in a real service.
//!
//! All tenants have orders of the same shapes there (lines, quantities, points, offers): how much work an order is
//! depends on its shape alone, so a tenant's share of the work is its share of the orders.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The file.
const FILE: &str = include_str!("../../data/orders.json");

/// An order, decoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// Whose shop it came through.
    pub tenant: String,
    /// What is asked for: to buy (`/orders`), to know the price (`/quotes`), to give back (`/returns`).
    pub route: String,
    /// When it was placed, in UTC.
    pub placed_at: String,
    /// The currency of all its amounts.
    pub currency: Currency,
    /// Who ordered.
    pub customer: Customer,
    /// Where to.
    pub ship_to: Address,
    /// What is ordered.
    pub lines: Vec<Line>,
    /// A remark of the customer.
    pub note: Option<String>,
}

/// What the amounts of an order are in. All are written in hundredths, also those of currencies without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the codes of ISO 4217 say it")]
pub enum Currency {
    Chf,
    Eur,
    Gbp,
    Jpy,
    Usd,
}

/// A customer and the loyalty points that may be spent on the order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The customer's number.
    pub id: String,
    /// The customer's name.
    pub name: String,
    /// Where the receipt goes.
    pub email: String,
    /// Points to spend.
    pub points: u32,
}

/// A postal address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Street and number.
    pub street: String,
    /// Town.
    pub city: String,
    /// Postal code.
    pub postal_code: String,
    /// Country, as ISO 3166 abbreviates it: it decides the tax.
    pub country: String,
}

/// One article of an order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The article's number.
    pub sku: String,
    /// The article.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// The price of the first of them, before any discount.
    pub unit_cents: u32,
    /// How it is taxed.
    pub tax: TaxClass,
    /// A discount on the line, in hundredths of a percent.
    #[serde(default)]
    pub discount_bp: u32,
    /// What points can buy here; at most one of the offers of a line is taken.
    pub offers: Vec<Offer>,
}

/// How an article is taxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaxClass {
    /// As most things are.
    Standard,
    /// Books and food.
    Reduced,
}

/// Points for money off a line.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Points it takes.
    pub points: u32,
    /// Money it saves.
    pub cents: u32,
}

/// Decodes the text of one order.
///
/// # Errors
/// If it is not JSON, or not that of an order.
pub fn decode(text: &str) -> serde_json::Result<Order> {
    serde_json::from_str(text)
}

/// The texts of all orders of the file, in its order.
///
/// # Panics
/// If the file that the binary was built with is broken.
pub fn texts() -> Vec<&'static str> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(borrow)]
        orders: Vec<&'a RawValue>,
    }
    let file: File<'static> = serde_json::from_str(FILE).expect("data/orders.json is what its tests say");
    file.orders.into_iter().map(RawValue::get).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn every_order_of_the_file_decodes_and_has_a_number_of_its_own() {
        let orders: Vec<Order> = texts().into_iter().map(|text| decode(text).expect("an order")).collect();
        assert!(orders.len() >= 200, "{}", orders.len());
        assert_eq!(orders.iter().map(|order| order.id).collect::<HashSet<_>>().len(), orders.len());
        for order in &orders {
            assert!(!order.lines.is_empty() && order.lines.iter().all(|line| line.quantity > 0), "{}", order.id);
        }
    }

    #[test]
    fn tenants_have_the_same_shapes_of_orders() {
        type Shape = (String, u32, Vec<(u32, Vec<u32>)>);
        let mut shapes: BTreeMap<String, Vec<Shape>> = BTreeMap::new();
        for order in texts().into_iter().map(|text| decode(text).unwrap()) {
            let lines = order.lines.iter();
            let lines = lines.map(|line| (line.quantity, line.offers.iter().map(|offer| offer.points).collect()));
            let shape = (order.route, order.customer.points, lines.collect());
            shapes.entry(order.tenant).or_default().push(shape);
        }
        assert!(shapes.len() > 2);
        let first = shapes.values().next().unwrap();
        assert!(shapes.values().all(|shapes| shapes == first));
    }

    #[test]
    fn what_is_no_order_is_refused_with_a_reason() {
        assert!(decode("{").is_err());
        assert!(decode("{}").unwrap_err().to_string().contains("missing field"));
        let text = texts()[0].replacen("\"route\"", "\"rout\"", 1);
        assert!(decode(&text).unwrap_err().to_string().contains("unknown field `rout`"));
    }
}
