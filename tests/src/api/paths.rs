//! What a path means in a module: declarations and imports, however private, as far as they lead within the crate.

use syn::{Item, UseTree};

use super::{
    print,
    tree::{Module, Tree},
};

/// An item: its module, and its place there.
pub(super) type Id = (Vec<String>, usize);

/// One meaning of a name, which may be a type, a value and a module at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Item(Id),
    Module(Vec<String>),
    /// Of another crate.
    Foreign(String),
    /// By macros of the module, whose text this is.
    Made(Vec<String>),
}

impl Tree {
    /// All meanings of a path that is written in a module.
    pub(super) fn resolve(&self, module: &[String], path: &[String]) -> Vec<Found> {
        self.follow(module, path, 0)
    }

    fn follow(&self, module: &[String], path: &[String], depth: usize) -> Vec<Found> {
        let (first, rest) = path.split_first().expect("a path");
        // Imports that lead in a circle are those of names with several meanings.
        if depth > 16 {
            return Vec::new();
        }
        match &**first {
            "crate" => self.within(Vec::new(), rest, depth),
            "self" => self.within(module.to_owned(), rest, depth),
            "super" => self.within(module[..module.len() - 1].to_owned(), rest, depth),
            name => {
                let known = self.within(module.to_owned(), path, depth);
                let is_foreign = known.is_empty() && !self.modules.contains_key(&self.modules[module].child(name));
                if is_foreign { vec![Found::Foreign(path.join("::"))] } else { known }
            }
        }
    }

    /// The meanings of a path that begins in this module.
    fn within(&self, module: Vec<String>, path: &[String], depth: usize) -> Vec<Found> {
        let Some((first, rest)) = path.split_first() else { return vec![Found::Module(module)] };
        if first == "super" || first == "self" {
            return self.follow(&module, path, depth + 1);
        }
        let here = &self.modules[&module];
        if rest.is_empty() {
            return self.named(here, first, depth);
        }
        let modules = self.named(here, first, depth).into_iter();
        let inner = modules.flat_map(|found| match found {
            Found::Module(inner) => self.within(inner, rest, depth + 1),
            Found::Foreign(path) => vec![Found::Foreign(format!("{path}::{}", rest.join("::")))],
            Found::Item(_) | Found::Made(_) => Vec::new(),
        });
        inner.collect()
    }

    /// The meanings of a name in a module.
    fn named(&self, module: &Module, name: &str, depth: usize) -> Vec<Found> {
        let mut found = Vec::new();
        for (index, item) in module.items.iter().enumerate() {
            match item {
                Item::Mod(inner) if inner.ident == name => found.push(Found::Module(module.child(name))),
                Item::Use(import) => self.imported(module, &import.tree, Vec::new(), name, depth, &mut found),
                item if print::name(item).is_some_and(|it| it == name) => {
                    found.push(Found::Item((module.path.clone(), index)));
                }
                _ => {}
            }
        }
        found.dedup();
        if found.is_empty() {
            let made = print::made_by_macros(module);
            if made.iter().any(|line| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == name)) {
                found.push(Found::Made(made));
            }
        }
        found
    }

    fn imported(
        &self,
        module: &Module,
        part: &UseTree,
        before: Vec<String>,
        name: &str,
        depth: usize,
        found: &mut Vec<Found>,
    ) {
        let mut follow = |last: &syn::Ident| {
            let path = [before.clone(), vec![last.to_string()]].concat();
            // `use self::name`, or a name that is imported from nowhere, would lead here again.
            if path.len() > 1 {
                found.extend(self.follow(&module.path, &path, depth + 1));
            }
        };
        match part {
            UseTree::Path(path) => {
                let before = [before, vec![path.ident.to_string()]].concat();
                self.imported(module, &path.tree, before, name, depth, found);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|part| self.imported(module, part, before.clone(), name, depth, found));
            }
            UseTree::Name(it) if it.ident == "self" && before.last().is_some_and(|last| last == name) => {
                found.extend(self.follow(&module.path, &before, depth + 1));
            }
            UseTree::Name(it) if it.ident == name => follow(&it.ident),
            UseTree::Rename(it) if it.rename == name => follow(&it.ident),
            _ => {}
        }
    }
}
