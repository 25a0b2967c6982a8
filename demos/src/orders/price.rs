//! What an order costs: the work that fills the service's time.
//!
//! * Each unit of a line is a little cheaper than the one before it, down to a floor; each is rounded by itself.
//! * The line's own discount, then the tax of the country it goes to, each rounded to what the currency can pay.
//! * Points of the customer buy money off. Which offers are taken is a knapsack problem with at most one offer a line,
//!   solved by dynamic programming: exact, and most of the time goes here.
//!
//! [`price_order`] is never inlined and its loops are plain ones, so that a profile shows it under its own name and with
//! its own lines; `rounded` is always inlined into it, so that a profile has an inlined frame to show.

use super::document::{Currency, Line, Order, TaxClass};

/// The name under which the hot function appears in profiles.
pub const HOT_FUNCTION: &str = concat!(module_path!(), "::price_order");

/// One hundred percent, in the unit of all rates.
const WHOLE: u64 = 10_000;

/// How much cheaper each further unit of a line is.
const PER_UNIT: u64 = 5;

/// The most that the number of units takes off.
const MOST_PER_UNIT: u64 = 1_500;

/// Kept back from what a customer gets for a return.
const RESTOCKING: u64 = 1_000;

/// The result. All amounts in hundredths of the order's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The lines, after discounts, before tax.
    pub net: u64,
    /// The tax on them.
    pub tax: u64,
    /// What the best choice of offers saves.
    pub saved: u64,
    /// Sending it; for a return, what is kept back for restocking.
    pub handling: u64,
    /// What the customer pays, or gets back.
    pub total: u64,
}

/// Prices an order.
#[inline(never)]
pub fn price_order(order: &Order) -> Price {
    let step = smallest_coin(order.currency);
    let budget = order.customer.points as usize;
    let mut price = Price::default();
    // The most that can be saved with so many points, on the lines so far.
    let mut table = vec![0_u64; budget + 1];
    let saved: &mut [u64] = &mut table;
    let mut offers = Vec::new();

    for line in &order.lines {
        let mut units = 0;
        let mut unit = 0;
        while unit < u64::from(line.quantity) {
            let off = if unit * PER_UNIT < MOST_PER_UNIT { unit * PER_UNIT } else { MOST_PER_UNIT };
            units += rounded(u64::from(line.unit_cents) * (WHOLE - off), WHOLE);
            unit += 1;
        }
        let net = rounded(units * (WHOLE - u64::from(line.discount_bp)), WHOLE * step) * step;
        let tax = rounded(net * tax_rate(&order.ship_to.country, line.tax), WHOLE * step) * step;
        price.net += net;
        price.tax += tax;

        affordable(line, net + tax, step, &mut offers);
        let offers: &[(usize, u64)] = &offers;
        // From many points to few: what is looked up has not seen this line yet, so no two of its offers combine.
        let mut points = budget;
        while points > 0 {
            let mut most = saved[points];
            let mut offer = 0;
            while offer < offers.len() {
                let (costs, saves) = offers[offer];
                if costs <= points && saved[points - costs] + saves > most {
                    most = saved[points - costs] + saves;
                }
                offer += 1;
            }
            saved[points] = most;
            points -= 1;
        }
    }

    price.saved = saved[budget];
    let goods = price.net + price.tax - price.saved;
    match order.route.as_str() {
        "/returns" => {
            price.handling = rounded(goods * RESTOCKING, WHOLE * step) * step;
            price.total = goods - price.handling;
        }
        "/orders" => {
            price.handling = rounded(shipping(order), step) * step;
            price.total = goods + price.handling;
        }
        _ => price.total = goods,
    }
    price
}

/// A quotient, rounded to the nearest integer, and to the even one from the middle.
#[inline(always)]
fn rounded(dividend: u64, divisor: u64) -> u64 {
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    let up = 2 * rest > divisor || (2 * rest == divisor && quotient % 2 == 1);
    quotient + u64::from(up)
}

/// The offers of a line, in amounts that can be paid, as (points, money). None saves more than the line costs.
fn affordable(line: &Line, gross: u64, step: u64, offers: &mut Vec<(usize, u64)>) {
    offers.clear();
    offers.extend(line.offers.iter().map(|offer| {
        let saves = (u64::from(offer.cents) / step * step).min(gross);
        (offer.points as usize, saves)
    }));
}

/// The smallest amount that can be paid, in hundredths.
fn smallest_coin(currency: Currency) -> u64 {
    match currency {
        Currency::Chf => 5,
        Currency::Jpy => 100,
        Currency::Eur | Currency::Gbp | Currency::Usd => 1,
    }
}

/// The tax rate of a country; none where the seller does not collect it.
fn tax_rate(country: &str, class: TaxClass) -> u64 {
    let (standard, reduced) = match country {
        "CH" => (810, 260),
        "DE" => (1_900, 700),
        "FR" => (2_000, 550),
        "GB" => (2_000, 0),
        "IT" => (2_200, 1_000),
        "JP" => (1_000, 800),
        _ => (0, 0),
    };
    match class {
        TaxClass::Standard => standard,
        TaxClass::Reduced => reduced,
    }
}

/// What sending costs: a base, and a little for each unit.
fn shipping(order: &Order) -> u64 {
    let units: u64 = order.lines.iter().map(|line| u64::from(line.quantity)).sum();
    let (base, each) = match order.currency {
        Currency::Jpy => (80_000, 1_000),
        _ => (490, 7),
    };
    base + each * units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::document::{decode, texts};

    /// Quantity, unit price, discount, offers of points for cents.
    type Article<'a> = (u32, u32, u32, &'a [(u32, u32)]);

    fn order(route: &str, currency: &str, country: &str, points: u32, lines: &[Article<'_>]) -> Order {
        let lines: Vec<_> = lines
            .iter()
            .map(|(quantity, unit_cents, discount_bp, offers)| {
                let offers: Vec<_> = offers
                    .iter()
                    .map(|(points, cents)| serde_json::json!({"points": points, "cents": cents}))
                    .collect();
                serde_json::json!({"sku": "X-1", "name": "Thing", "quantity": quantity, "unit_cents": unit_cents,
                    "tax": "standard", "discount_bp": discount_bp, "offers": offers})
            })
            .collect();
        let order = serde_json::json!({"id": 1, "tenant": "acme", "route": route, "placed_at": "2026-03-02T08:00:00Z",
            "currency": currency, "lines": lines,
            "customer": {"id": "C-1", "name": "Ida", "email": "ida@example.com", "points": points},
            "ship_to": {"street": "Oak Street 1", "city": "Austin", "postal_code": "78701", "country": country}});
        decode(&order.to_string()).expect("an order")
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_from_the_middle_to_the_even() {
        let tenths: Vec<u64> = [0, 4, 5, 6, 14, 15, 16, 25].iter().map(|&n| rounded(n, 10)).collect();
        assert_eq!(tenths, [0, 0, 0, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_line_by_hand() {
        // 1000 + 999.5 + 999.0, where 999.5 rounds to the even 1000: 2999. 10 % off: 2699.1. German tax: 512.81.
        let price = price_order(&order("/quotes", "EUR", "DE", 0, &[(3, 1_000, 1_000, &[])]));
        assert_eq!(price, Price { net: 2_699, tax: 513, saved: 0, handling: 0, total: 3_212 });
        // Sending three: 4.90 + 3 * 0.07.
        let price = price_order(&order("/orders", "EUR", "DE", 0, &[(3, 1_000, 1_000, &[])]));
        assert_eq!((price.handling, price.total), (511, 3_723));
        // A tenth is kept back: 321.2.
        let price = price_order(&order("/returns", "EUR", "DE", 0, &[(3, 1_000, 1_000, &[])]));
        assert_eq!((price.handling, price.total), (321, 2_891));
    }

    #[test]
    fn coins_limit_what_can_be_paid() {
        // 9.99 Swiss francs: 10.00; 8.1 % tax on that: 0.81, so 0.80. Sending one: 4.97, so 4.95.
        let price = price_order(&order("/orders", "CHF", "CH", 0, &[(1, 999, 0, &[])]));
        assert_eq!((price.net, price.tax, price.handling), (1_000, 80, 495));
        // 1234 yen: 10 % tax is 123.4, so 123.
        let price = price_order(&order("/quotes", "JPY", "JP", 0, &[(1, 123_400, 0, &[])]));
        assert_eq!((price.net, price.tax, price.total), (123_400, 12_300, 135_700));
    }

    #[test]
    fn the_discount_for_many_has_a_floor() {
        let many = price_order(&order("/quotes", "EUR", "US", 0, &[(1_000, 1_000, 0, &[])]));
        // Units 0..300 fall by half a cent each, the other 700 cost 850.
        let falling: u64 = (0..300_u64).map(|n| rounded(1_000 * (10_000 - 5 * n), 10_000)).sum();
        assert_eq!(many.net, falling + 700 * 850);
    }

    #[test]
    fn one_offer_a_line_within_the_points() {
        let lines: &[Article<'_>] =
            &[(1, 5_000, 0, &[(300, 200), (600, 390)]), (1, 5_000, 0, &[(400, 250), (700, 600)])];
        let saved = |points| price_order(&order("/quotes", "USD", "US", points, lines)).saved;
        assert_eq!([0, 299, 300, 400, 699, 700, 1_000, 1_300].map(saved), [0, 0, 200, 250, 390, 600, 800, 990]);
    }

    #[test]
    fn an_offer_saves_no_more_than_its_line() {
        let price = price_order(&order("/quotes", "USD", "US", 100, &[(1, 50, 0, &[(10, 900)])]));
        assert_eq!((price.saved, price.total), (50, 0));
    }

    /// The best saving by trying every choice of at most one offer a line.
    fn by_brute_force(lines: &[Vec<(usize, u64)>], points: usize) -> u64 {
        let Some((line, rest)) = lines.split_first() else { return 0 };
        let without = by_brute_force(rest, points);
        let with = line.iter().filter(|(costs, _)| *costs <= points);
        with.map(|(costs, saves)| saves + by_brute_force(rest, points - costs)).fold(without, u64::max)
    }

    #[test]
    fn no_choice_of_offers_beats_the_one_found_in_any_order_of_the_file() {
        for order in texts().into_iter().map(|text| decode(text).unwrap()) {
            let step = smallest_coin(order.currency);
            // The net and tax of a line do not depend on the other lines.
            let lines = order.lines.iter().map(|line| {
                let alone = price_order(&Order { lines: vec![line.clone()], ..order.clone() });
                let mut offers = Vec::new();
                affordable(line, alone.net + alone.tax, step, &mut offers);
                offers
            });
            let lines: Vec<_> = lines.collect();
            let best = by_brute_force(&lines, order.customer.points as usize);
            let price = price_order(&order);
            assert_eq!(price.saved, best, "order {}", order.id);
            assert!(price.total > 0 && price.total.is_multiple_of(step), "order {}", order.id);
        }
    }
}
