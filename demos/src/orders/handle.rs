//! What is done with one order, in a task of its own: decode, price, store. And the audit, which is slow.

use std::time::Duration;

use greenprof_runtime::{sleep, sync::Chan};

use super::{Shared, document::decode, load::Request, price::price_order, store::Handled};

/// How long the audit thinks about an order.
const AUDIT: Duration = Duration::from_millis(20);

/// Handles an order that was sent in.
pub fn handle(shared: &Shared, request: &Request) {
    let total = match decode(request.text) {
        Ok(order) => {
            // A return needs the sale: a look into the store, where the writer is busy too.
            let known = (order.route == "/returns").then(|| shared.store.get(order.id));
            let total = price_order(&order).total;
            match known {
                Some(record) if record.times > 0 && record.sum != record.times * total => None,
                _ => Some(total),
            }
        }
        Err(_) => None,
    };
    if let Some(total) = total {
        let handled = Handled { id: request.id, total };
        shared.store.put(handled);
        // The audit takes what it has time for.
        if shared.audit.try_send(handled).is_err() {
            shared.tally.count_unaudited();
        }
    }
    shared.tally.count(request.cell, total == Some(request.expected));
}

/// The audit's task: looks at orders, slowly, until the channel is closed.
pub fn audit(orders: &Chan<Handled>) -> u64 {
    orders.iter().map(|_| sleep(AUDIT)).count() as u64
}
