//! Items in one line each, without bodies, documentation and what is private.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Fields, FnArg, Generics, ImplItem, Item, ItemImpl, ItemMacro, Pat, Signature, TraitItem, Type,
    Visibility,
    parse::{Parse, ParseStream},
};

use super::{
    paths::{Found, Id},
    tree::{Module, Tree, is_built},
};

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn visibility(item: &Item) -> Option<&Visibility> {
    Some(match item {
        Item::Const(it) => &it.vis,
        Item::Enum(it) => &it.vis,
        Item::Fn(it) => &it.vis,
        Item::Mod(it) => &it.vis,
        Item::Static(it) => &it.vis,
        Item::Struct(it) => &it.vis,
        Item::Trait(it) => &it.vis,
        Item::Type(it) => &it.vis,
        Item::Union(it) => &it.vis,
        Item::Use(it) => &it.vis,
        _ => return None,
    })
}

pub(super) fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

pub(super) fn is_public(item: &Item) -> bool {
    visibility(item).is_some_and(|visibility| matches!(visibility, Visibility::Public(_)))
}

pub(super) fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|it| it.path().is_ident(name))
}

fn hides(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| it.path().is_ident("doc") && it.meta.to_token_stream().to_string().contains("(hidden"))
}

pub(super) fn is_hidden(item: &Item) -> bool {
    hides(attributes(item))
}

/// What an item is, in lines: what it declares, its fields, variants or methods, and its derives.
pub(super) fn item(item: &Item) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(attributes(item).iter().filter(|it| it.path().is_ident("non_exhaustive")).map(|it| tidy(quote!(#it))));
    match item {
        Item::Const(it) => {
            let (name, ty) = (&it.ident, &it.ty);
            lines.push(tidy(quote!(pub const #name: #ty)));
        }
        Item::Static(it) => {
            let (name, ty) = (&it.ident, &it.ty);
            lines.push(tidy(quote!(pub static #name: #ty)));
        }
        Item::Type(it) => {
            let (name, generics, ty) = (&it.ident, &it.generics, &it.ty);
            lines.push(tidy(quote!(pub type #name #generics = #ty)));
        }
        Item::Fn(it) => lines.push(function(quote!(pub), &it.sig)),
        Item::Struct(it) => {
            lines.push(header(quote!(pub struct), &it.ident, &it.generics));
            lines.extend(fields(&it.fields, false));
        }
        Item::Enum(it) => {
            lines.push(header(quote!(pub enum), &it.ident, &it.generics));
            for variant in &it.variants {
                let name = &variant.ident;
                lines.push(tidy(quote!(#name)));
                lines.extend(fields(&variant.fields, true).into_iter().map(|field| format!("    {field}")));
            }
        }
        Item::Trait(it) => {
            let (name, generics, bounds, clause) =
                (&it.ident, &it.generics, &it.supertraits, &it.generics.where_clause);
            let (unsafety, colon) = (&it.unsafety, &it.colon_token);
            lines.push(tidy(quote!(pub #unsafety trait #name #generics #colon #bounds #clause)));
            lines.extend(it.items.iter().filter_map(provided));
        }
        other => panic!("{} is not known here", tidy(quote!(#other))),
    }
    for derive in attributes(item).iter().filter(|it| it.path().is_ident("derive")) {
        let names = derive.meta.require_list().expect("names").tokens.clone();
        let mut names: Vec<String> =
            tidy(names).split(", ").map(|name| name.trim_end_matches(',').to_owned()).collect();
        names.sort();
        lines.push(format!("derive {}", names.join(", ")));
    }
    lines
}

fn header(kind: TokenStream, name: &syn::Ident, generics: &Generics) -> String {
    let clause = &generics.where_clause;
    tidy(quote!(#kind #name #generics #clause))
}

/// Those that others see; that there are others is told, as it decides who may make such a value.
fn fields(fields: &Fields, all: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut hidden = false;
    for (index, field) in fields.iter().enumerate() {
        if !all && !matches!(field.vis, Visibility::Public(_)) {
            hidden = true;
            continue;
        }
        let (visibility, ty) = (&field.vis, &field.ty);
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        lines.push(format!("{} {name}: {}", tidy(quote!(#visibility)), tidy(quote!(#ty))).trim_start().to_owned());
    }
    if hidden {
        lines.push("..".to_owned());
    }
    lines
}

/// A signature, in which `mut` in front of an argument is nobody's business.
fn function(before: TokenStream, signature: &Signature) -> String {
    let mut signature = signature.clone();
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(it) if it.reference.is_none() => it.mutability = None,
            FnArg::Receiver(_) => {}
            FnArg::Typed(it) => {
                it.attrs.clear();
                if let Pat::Ident(name) = &mut *it.pat {
                    name.mutability = None;
                }
            }
        }
    }
    tidy(quote!(#before #signature))
}

/// An item of a trait; `{ .. }` is one that need not be written.
fn provided(item: &TraitItem) -> Option<String> {
    Some(match item {
        TraitItem::Fn(it) if hides(&it.attrs) => return None,
        TraitItem::Fn(it) => {
            let default = if it.default.is_some() { " { .. }" } else { "" };
            function(TokenStream::new(), &it.sig) + default
        }
        TraitItem::Const(it) => {
            let (name, ty) = (&it.ident, &it.ty);
            tidy(quote!(const #name: #ty)) + if it.default.is_some() { " = .." } else { "" }
        }
        TraitItem::Type(it) => {
            let (name, bounds, colon) = (&it.ident, &it.bounds, &it.colon_token);
            tidy(quote!(type #name #colon #bounds))
        }
        other => panic!("{} is not known here", tidy(quote!(#other))),
    })
}

/// Items of an implementation, for the text of a macro within.
struct ImplItems(Vec<ImplItem>);

impl Parse for ImplItems {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut items = Vec::new();
        while !input.is_empty() {
            items.push(input.parse()?);
        }
        Ok(Self(items))
    }
}

/// What is implemented for a type: public methods and constants, and traits that others can name.
pub(super) fn implementations(tree: &Tree, id: &Id, is_public: impl Fn(&[Found]) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    for module in tree.modules.values() {
        for item in &module.items {
            let Item::Impl(it) = item else { continue };
            if !names(tree, module, &it.self_ty, id) {
                continue;
            }
            match &it.trait_ {
                None => lines.extend(inherent(it)),
                Some((_, path, _)) => {
                    let path: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                    if is_public(&tree.resolve(&module.path, &path)) {
                        lines.push(of_trait(it));
                    }
                }
            }
        }
    }
    lines.sort();
    lines
}

fn names(tree: &Tree, module: &Module, ty: &Type, id: &Id) -> bool {
    match ty {
        Type::Path(it) if it.qself.is_none() => {
            let path: Vec<String> = it.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            tree.resolve(&module.path, &path).contains(&Found::Item(id.clone()))
        }
        Type::Reference(it) => names(tree, module, &it.elem, id),
        _ => false,
    }
}

fn inherent(block: &ItemImpl) -> Vec<String> {
    let (generics, ty, clause) = (&block.generics, &block.self_ty, &block.generics.where_clause);
    let head = tidy(quote!(impl #generics #ty #clause));
    // A macro within gives the methods that it is given, or nothing that is public.
    let items = block.items.iter().flat_map(|item| match item {
        ImplItem::Macro(it) => syn::parse2::<ImplItems>(it.mac.tokens.clone()).map_or_else(|_| Vec::new(), |it| it.0),
        item => vec![item.clone()],
    });
    let lines = items.filter_map(|item| match item {
        ImplItem::Fn(it) if is_shown(&it.vis, &it.attrs) => Some(function(quote!(pub), &it.sig)),
        ImplItem::Const(it) if is_shown(&it.vis, &it.attrs) => {
            let (name, ty) = (&it.ident, &it.ty);
            Some(tidy(quote!(pub const #name: #ty)))
        }
        _ => None,
    });
    lines.map(|line| format!("{head} {{ {line} }}")).collect()
}

fn is_shown(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !hides(attributes) && is_built(attributes)
}

fn of_trait(block: &ItemImpl) -> String {
    let (not, path, _) = block.trait_.as_ref().expect("of a trait");
    let (unsafety, generics, ty) = (&block.unsafety, &block.generics, &block.self_ty);
    let clause = &block.generics.where_clause;
    let types = block.items.iter().filter_map(|item| match item {
        ImplItem::Type(it) => {
            let (name, ty) = (&it.ident, &it.ty);
            Some(format!("type {name} = {}", tidy(quote!(#ty))))
        }
        _ => None,
    });
    let types: Vec<String> = types.collect();
    let types = if types.is_empty() { String::new() } else { format!(" {{ {} }}", types.join("; ")) };
    tidy(quote!(#unsafety impl #generics #not #path for #ty #clause)) + &types
}

pub(super) fn macro_name(item: &ItemMacro) -> String {
    item.ident.as_ref().expect("an exported macro has a name").to_string()
}

/// What a macro takes: the left side of each of its rules.
pub(super) fn matchers(item: &ItemMacro) -> Vec<String> {
    let tokens: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
    let rule = |pair: &[TokenTree]| match pair {
        [TokenTree::Group(group), TokenTree::Punct(next)] if next.as_char() == '=' => {
            Some(format!("({})", exact(group.stream())))
        }
        _ => None,
    };
    tokens.windows(2).filter_map(rule).collect()
}

/// The calls of macros in a module that may make items.
pub(super) fn made_by_macros(module: &Module) -> Vec<String> {
    let calls = module.items.iter().filter_map(|item| match item {
        Item::Macro(it) if it.ident.is_none() => Some(it),
        _ => None,
    });
    let definitions = module.items.iter().filter_map(|item| match item {
        Item::Macro(it) if it.ident.is_some() && !has(&it.attrs, "macro_export") => Some(it),
        _ => None,
    });
    definitions.chain(calls).map(|it| exact(without_docs(it.to_token_stream()))).collect()
}

fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let is_doc = group.stream().into_iter().next().is_some_and(|first| first.to_string() == "doc");
                if group.delimiter() == Delimiter::Bracket && is_doc {
                    kept.pop(); // the `#`
                } else {
                    kept.push(proc_macro2::Group::new(group.delimiter(), without_docs(group.stream())).into());
                }
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

/// Tokens as people write them, without commas at the end of a list.
fn tidy(tokens: TokenStream) -> String {
    exact(tokens).replace(",>", ">").replace(",)", ")").trim_end_matches(',').to_owned()
}

/// Tokens with as little space as people write.
fn exact(tokens: TokenStream) -> String {
    let mut words = Vec::new();
    flatten(tokens, &mut words);
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| &*words[at]);
        if !text.is_empty() && is_apart(before, word) {
            text.push(' ');
        }
        text += word;
    }
    text
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    const JOINED: [&str; 7] = ["->", "=>", "::", "..", "..=", "&&", "=="];
    // Whether the word before is punctuation that belongs to the next.
    let mut joint = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
                joint = false;
            }
            TokenTree::Punct(mark) => {
                let last =
                    words.last_mut().filter(|last| joint && JOINED.contains(&&*format!("{last}{}", mark.as_char())));
                match last {
                    Some(last) => last.push(mark.as_char()),
                    None => words.push(mark.as_char().to_string()),
                }
                joint = mark.spacing() == Spacing::Joint;
            }
            token => {
                match words.last_mut().filter(|last| joint && *last == "'") {
                    Some(last) => *last += &token.to_string(), // a lifetime
                    None => words.push(token.to_string()),
                }
                joint = false;
            }
        }
    }
    words.retain(|word| !word.is_empty());
}

fn is_apart(before: &str, word: &str) -> bool {
    let is_word = |text: &str| text.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let keeps_apart = ["dyn", "mut", "in", "as", "where", "const", "for", "impl"];
    match (before, word) {
        (_, "," | ";" | ":" | ")" | "]" | ">" | "." | "::") => false,
        ("(" | "[" | "<" | "&" | "*" | "::" | "." | "#" | "?" | "$", _) => false,
        ("for" | "impl", "<") | ("!", "(") => false,
        (_, "(") => !(is_word(before) && !keeps_apart.contains(&before) || before == ">"),
        (_, "<" | "!") => !is_word(before),
        _ => true,
    }
}
