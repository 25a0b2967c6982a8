//! Texts and stacks as numbers. A generation begins with empty tables, as in the format that it is made from: so they are
//! bounded, and what comes later can be read without what was before.

use std::{collections::HashMap, sync::Arc};

use super::messages::{Bytes, Interned, Mapping, Stack, Text};
use crate::{engine::tables::NumberMap, reader::Frame};

/// Numbers of texts; the first is 1.
#[derive(Default)]
struct Texts(HashMap<Box<str>, u64>);

impl Texts {
    /// The number of a text, and whether it is a new one.
    fn number(&mut self, text: &str) -> (u64, bool) {
        if let Some(known) = self.0.get(text) {
            return (*known, false);
        }
        let number = self.0.len() as u64 + 1;
        self.0.insert(text.into(), number);
        (number, true)
    }
}

/// The one file that frames lie in: a trace has functions, not addresses, but the format wants to know.
const MAPPING: u64 = 1;

#[derive(Default)]
pub(super) struct Interner {
    categories: Texts,
    event_names: Texts,
    note_names: Texts,
    functions: Texts,
    sources: Texts,
    frames: HashMap<Frame, u64>,
    /// By address: the stacks of a generation are shared by its events, and live as long as it does.
    stacks: NumberMap<u64>,
    /// What the next packet has to define.
    new: Interned,
    any: bool,
}

impl Interner {
    pub(super) fn category(&mut self, name: &str) -> u64 {
        let (id, is_new) = self.categories.number(name);
        if is_new {
            self.any = true;
            self.new.categories.push(text(id, name));
        }
        id
    }

    pub(super) fn event_name(&mut self, name: &str) -> u64 {
        let (id, is_new) = self.event_names.number(name);
        if is_new {
            self.any = true;
            self.new.event_names.push(text(id, name));
        }
        id
    }

    pub(super) fn note_name(&mut self, name: &str) -> u64 {
        let (id, is_new) = self.note_names.number(name);
        if is_new {
            self.any = true;
            self.new.note_names.push(text(id, name));
        }
        id
    }

    /// The number of a stack, innermost frame first.
    pub(super) fn stack(&mut self, stack: &Arc<[Frame]>) -> u64 {
        let key = stack.as_ptr().addr() as u64;
        if let Some(known) = self.stacks.get(&key) {
            return *known;
        }
        let id = self.stacks.len() as u64 + 1;
        self.stacks.insert(key, id);
        let frames = stack.iter().rev().map(|frame| self.frame(frame)).collect();
        self.any = true;
        self.new.stacks.push(Stack { id: Some(id), frames });
        id
    }

    fn frame(&mut self, frame: &Frame) -> u64 {
        if let Some(known) = self.frames.get(frame) {
            return *known;
        }
        if self.frames.is_empty() {
            self.new.paths.push(bytes(MAPPING, "program"));
            self.new.mappings.push(Mapping { id: Some(MAPPING), path: vec![MAPPING] });
        }
        let id = self.frames.len() as u64 + 1;
        self.frames.insert(frame.clone(), id);
        let (function, is_new) = self.functions.number(&frame.function);
        if is_new {
            self.new.functions.push(bytes(function, &frame.function));
        }
        let (source, is_new) = self.sources.number(&frame.file);
        if is_new {
            self.new.sources.push(bytes(source, &frame.file));
        }
        self.new.frames.push(super::messages::Frame {
            id: Some(id),
            function: Some(function),
            mapping: Some(MAPPING),
            // Readers take frames of one address for the same.
            address: Some(id),
            source: Some(source),
            line: u32::try_from(frame.line).ok(),
        });
        id
    }

    /// The definitions that have not been written yet.
    pub(super) fn take_new(&mut self) -> Option<Interned> {
        std::mem::take(&mut self.any).then(|| std::mem::take(&mut self.new))
    }
}

fn text(id: u64, text: &str) -> Text {
    Text { id: Some(id), text: Some(text.to_owned()) }
}

fn bytes(id: u64, text: &str) -> Bytes {
    Bytes { id: Some(id), bytes: Some(text.as_bytes().to_vec()) }
}
