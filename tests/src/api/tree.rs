//! The modules of a crate, as they are built for its users: without tests, with all features that are part of the API.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, ExprLit, Item, ItemMacro, Lit, Meta, Token, Visibility, punctuated::Punctuated};

use super::{paths::Id, print};

/// A module of the crate.
pub(super) struct Module {
    /// From the root, which has an empty one.
    pub(super) path: Vec<String>,
    /// Whether it is declared `pub`.
    pub(super) is_public: bool,
    /// Whether all modules around it are, too.
    pub(super) is_reachable: bool,
    pub(super) items: Vec<Item>,
}

impl Module {
    pub(super) fn child(&self, name: &str) -> Vec<String> {
        [self.path.clone(), vec![name.to_owned()]].concat()
    }
}

pub(super) struct Tree {
    pub(super) modules: BTreeMap<Vec<String>, Module>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Self {
        let mut tree = Self { modules: BTreeMap::new() };
        tree.file(root, Vec::new(), (true, true));
        tree
    }

    pub(super) fn item(&self, (module, index): &Id) -> &Item {
        &self.modules[module].items[*index]
    }

    pub(super) fn exported_macros(&self) -> impl Iterator<Item = &ItemMacro> {
        self.modules.values().flat_map(|module| &module.items).filter_map(|item| match item {
            Item::Macro(it) if print::has(&it.attrs, "macro_export") && !print::is_hidden(item) => Some(it),
            _ => None,
        })
    }

    fn file(&mut self, file: &Path, path: Vec<String>, seen: (bool, bool)) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folder = file.parent().expect("a folder");
        // The modules of `a.rs` lie in `a/`, those of `a/mod.rs` and of the root beside it.
        let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib") => folder.to_owned(),
            stem => folder.join(stem.expect("a name")),
        };
        self.add(parsed.items, &folder, path, seen);
    }

    fn add(&mut self, items: Vec<Item>, folder: &Path, path: Vec<String>, (is_public, is_reachable): (bool, bool)) {
        let items: Vec<Item> = items.into_iter().filter(|item| is_built(print::attributes(item))).collect();
        for item in &items {
            let Item::Mod(inner) = item else { continue };
            let name = inner.ident.to_string();
            let child = [path.clone(), vec![name.clone()]].concat();
            let public = matches!(inner.vis, Visibility::Public(_));
            let seen = (public, public && is_reachable);
            match &inner.content {
                Some((_, items)) => self.add(items.clone(), &folder.join(&name), child, seen),
                None => {
                    let files: [PathBuf; 2] = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
                    let file = files.iter().find(|file| file.exists());
                    self.file(
                        file.unwrap_or_else(|| panic!("no file for the module {name} in {folder:?}")),
                        child,
                        seen,
                    );
                }
            }
        }
        self.modules.insert(path.clone(), Module { path, is_public, is_reachable, items });
    }
}

/// Whether code with these attributes is built, for Linux on x86_64.
pub(super) fn is_built(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|it| it.path().is_ident("cfg"));
    conditions.map(|it| it.parse_args::<Meta>().expect("a condition")).all(|meta| holds(&meta))
}

fn holds(condition: &Meta) -> bool {
    let name = condition.path().require_ident().expect("one word").to_string();
    match condition {
        Meta::Path(_) => matches!(&*name, "unix" | "debug_assertions"),
        Meta::NameValue(pair) => {
            let Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) = &pair.value else { panic!("a text") };
            let (name, value) = (&*name, value.value());
            matches!(
                (name, &*value),
                ("feature", "hooks") | ("target_os", "linux") | ("target_arch", "x86_64") | ("panic", "unwind")
            )
        }
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).expect("conditions");
            match &*name {
                "not" => !parts.iter().all(holds),
                "all" => parts.iter().all(holds),
                "any" => parts.iter().any(holds),
                other => panic!("the condition {other} is not known here"),
            }
        }
    }
}
