//! The public API of a crate as text, read from its source: what a change of it looks like in a review.
//!
//! Source and not rustdoc, because rustdoc's form for programs is not stable, and changes with the toolchain. What is told: all that can be
//! reached from the crate's root by `pub`, once, under its shortest path, with its implementations and derives; further paths as
//! `also`. Types are written as they are in the source. What is not told: which types are `Send` and `Sync` by themselves, and
//! what macros of the crate make (where one makes a public item, the text that it is given stands for it).
//!
//! `tree` reads the modules, `paths` follows names, `print` writes items.

mod paths;
mod print;
mod tree;

use std::{collections::BTreeMap, path::Path};

use syn::{Item, UseTree};

use paths::{Found, Id};
use tree::{Module, Tree};

/// The API of the crate whose root is this file, with its name in front of all paths.
pub fn text(name: &str, root: &Path) -> String {
    let tree = Tree::read(root);
    let mut public = Public { tree: &tree, paths: BTreeMap::new(), foreign: Vec::new() };
    public.walk(&tree.modules[&Vec::new()], name);
    let mut groups: Vec<(String, Vec<String>)> = public.foreign;
    for (id, paths) in &mut public.paths {
        paths.sort_by_key(|path| (path.matches("::").count(), path.clone()));
        let mut lines = print::item(tree.item(id));
        lines.extend(print::implementations(&tree, id, |other| public_trait(&tree, other)));
        lines.extend(paths[1..].iter().map(|path| format!("also {path}")));
        groups.push((paths[0].clone(), lines));
    }
    groups
        .extend(tree.exported_macros().map(|it| (format!("{name}::{}!", print::macro_name(it)), print::matchers(it))));
    groups.sort();
    let mut text =
        format!("The public API of {name}, as tests/tests/public_api.rs reads it, which says how to renew this.\n");
    for (path, lines) in groups {
        text += &format!("\n{path}\n");
        lines.iter().for_each(|line| text += &format!("    {line}\n"));
    }
    text
}

/// Whether a trait of the crate can be named by others; foreign ones can.
fn public_trait(tree: &Tree, found: &[Found]) -> bool {
    found.iter().all(|found| match found {
        Found::Item(id) => tree.modules[&id.0].is_reachable && print::is_public(tree.item(id)),
        _ => true,
    })
}

/// What can be reached, and by which paths.
struct Public<'t> {
    tree: &'t Tree,
    paths: BTreeMap<Id, Vec<String>>,
    /// What is another crate's, or made by a macro.
    foreign: Vec<(String, Vec<String>)>,
}

impl Public<'_> {
    fn walk(&mut self, module: &Module, prefix: &str) {
        for (index, item) in module.items.iter().enumerate() {
            if !print::is_public(item) || print::is_hidden(item) {
                continue;
            }
            match item {
                Item::Use(import) => self.import(module, &import.tree, Vec::new(), prefix),
                Item::Mod(inner) => {
                    let path = module.child(&inner.ident.to_string());
                    self.walk(&self.tree.modules[&path], &format!("{prefix}::{}", inner.ident));
                }
                item => {
                    let Some(name) = print::name(item) else { continue };
                    self.enter((module.path.clone(), index), format!("{prefix}::{name}"));
                }
            }
        }
    }

    fn enter(&mut self, id: Id, path: String) {
        if !print::is_hidden(self.tree.item(&id)) {
            self.paths.entry(id).or_default().push(path);
        }
    }

    /// Follows a `pub use`; `before` is the path in front of this part.
    fn import(&mut self, module: &Module, part: &UseTree, before: Vec<String>, prefix: &str) {
        match part {
            UseTree::Path(path) => {
                self.import(module, &path.tree, [before, vec![path.ident.to_string()]].concat(), prefix);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|part| self.import(module, part, before.clone(), prefix));
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                self.named(module, [before, vec![name.clone()]].concat(), &format!("{prefix}::{name}"));
            }
            UseTree::Rename(rename) => {
                let path = [before, vec![rename.ident.to_string()]].concat();
                self.named(module, path, &format!("{prefix}::{}", rename.rename));
            }
            UseTree::Glob(_) => panic!("`pub use {}::*` hides what is public: name it", before.join("::")),
        }
    }

    fn named(&mut self, module: &Module, path: Vec<String>, public: &str) {
        let found = self.tree.resolve(&module.path, &path);
        assert!(!found.is_empty(), "nothing is found for `pub use {}` in {:?}", path.join("::"), module.path);
        for found in found {
            match found {
                Found::Item(id) => self.enter(id, public.to_owned()),
                // What a name shares with a module that is private is not made public by this.
                Found::Module(inner) if self.tree.modules[&inner].is_public => {
                    self.walk(&self.tree.modules[&inner], public);
                }
                Found::Module(_) => {}
                Found::Foreign(path) => self.foreign.push((public.to_owned(), vec![format!("pub use {path}")])),
                Found::Made(lines) => self.foreign.push((public.to_owned(), lines)),
            }
        }
    }
}
