//! Events of generations that come one after the other, as the engine delivers them.

use super::{Event, ReadError, container::Container, order::Order};

/// What a generation consists of.
pub(crate) enum Item<'a> {
    /// It begins. A moment in nanoseconds of the trace's clock and since 1970, if it tells one.
    Generation(Option<(u64, u64)>),
    /// An event.
    Event(&'a Event),
}

/// Reads generations, remembering the states between them.
pub(crate) struct Stream {
    order: Order,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self { order: Order::new() }
    }

    /// Reads whole generations, which have no file's header.
    pub(crate) fn add(&mut self, bytes: &[u8], mut each: impl FnMut(Item<'_>)) -> Result<(), ReadError> {
        self.drain(Container::of_generations(bytes), &mut each)
    }

    /// Reads a file to its end.
    pub(crate) fn read(&mut self, source: impl std::io::Read, mut each: impl FnMut(Item<'_>)) -> Result<(), ReadError> {
        self.drain(Container::open(source)?, &mut each)
    }

    fn drain<R: std::io::Read>(
        &mut self,
        mut container: Container<R>,
        each: &mut impl FnMut(Item<'_>),
    ) -> Result<(), ReadError> {
        while let Some(generation) = container.next_generation()? {
            each(Item::Generation(generation.wall_time()));
            self.order.run(&generation, |event| each(Item::Event(event)))?;
        }
        Ok(())
    }
}
