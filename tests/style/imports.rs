//! Which file of a crate names items of which other file, and the circles in that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use crate::source::{attributes, is_for_tests};

/// The names of a path below the root of the crate, `jose::jwk::Jwk`.
type Names = Vec<String>;

/// A module in a file of its own.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What its `use` declarations bring in: the name here, and the full path.
    imports: Vec<(String, Names)>,
    /// The names that it defines itself.
    items: BTreeSet<String>,
    /// Every path that the file names.
    uses: Vec<Names>,
}

/// Circles of files that need each other, each as a list that ends with its first file.
pub(crate) fn circles(src: &Path) -> Vec<Vec<String>> {
    let modules: BTreeMap<Names, Module> =
        crate::source::files(src).iter().filter_map(|path| Module::read(src, path)).collect();
    let mut graph: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for module in modules.values() {
        let needs = module.uses.iter().filter_map(|path| defining_file(&modules, path, 0));
        graph.entry(&module.file).or_default().extend(needs.filter(|file| *file != module.file));
    }
    shortest_circles(&graph)
}

/// For each arrow of the graph the shortest way back, each circle once.
fn shortest_circles(graph: &BTreeMap<&Path, BTreeSet<&Path>>) -> Vec<Vec<String>> {
    let (mut circles, mut known) = (Vec::new(), BTreeSet::new());
    for (from, targets) in graph {
        for target in targets {
            let Some(way) = shortest_way(graph, target, from) else {
                continue;
            };
            if known.insert(way.iter().copied().collect::<BTreeSet<_>>()) {
                let circle = [*from].into_iter().chain(way);
                circles.push(circle.map(display).collect());
            }
        }
    }
    circles
}

fn display(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string()
}

fn shortest_way<'a>(
    graph: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
    from: &'a Path,
    to: &'a Path,
) -> Option<Vec<&'a Path>> {
    let (mut queue, mut seen) = (VecDeque::from([vec![from]]), BTreeSet::from([from]));
    while let Some(way) = queue.pop_front() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in graph.get(last).into_iter().flatten().filter(|next| seen.insert(**next)) {
            queue.push_back([way.as_slice(), &[*next]].concat());
        }
    }
    None
}

/// The file that defines what a full path names, through re-exports; the module's own file if the path names a module.
fn defining_file<'a>(modules: &'a BTreeMap<Names, Module>, path: &[String], depth: u8) -> Option<&'a Path> {
    let inside = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let module = &modules[&path[..inside]];
    let Some(name) = path.get(inside) else {
        return Some(&module.file);
    };
    if module.items.contains(name) || depth > 9 {
        return Some(&module.file);
    }
    for (import, target) in &module.imports {
        if import == name {
            let target = [target.as_slice(), &path[inside + 1..]].concat();
            return defining_file(modules, &target, depth + 1);
        }
    }
    // A glob brings in the name if the module that it names has it.
    let globs = module.imports.iter().filter(|(import, _)| import == "*").map(|(_, target)| target);
    let mut globs = globs.filter(|target| modules.get(*target).is_some_and(|module| module.has(name)));
    match globs.next() {
        Some(target) => defining_file(modules, &[target.as_slice(), &path[inside..]].concat(), depth + 1),
        None => Some(&module.file),
    }
}

impl Module {
    fn read(src: &Path, path: &Path) -> Option<(Names, Self)> {
        let below = path.strip_prefix(src).ok()?.with_extension("");
        let mut names: Names = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_root = ["mod", "lib"].contains(&names.last()?.as_str());
        if is_root {
            names.pop();
        }
        if path.extension()? != "rs" || names == ["main"] {
            return None;
        }
        let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
        let module = Self { file: path.to_owned(), ..Self::default() };
        let mut reader = Reader { names: names.clone(), is_root, children: BTreeSet::new(), module };
        for item in &file.items {
            if let syn::Item::Mod(child) = item {
                reader.children.insert(child.ident.to_string());
            }
        }
        // Imports first: a path may begin with a name that a later line imports.
        file.items.iter().for_each(|item| reader.import(item));
        reader.visit_file(&file);
        Some((names, reader.module))
    }

    fn has(&self, name: &str) -> bool {
        self.items.contains(name) || self.imports.iter().any(|(import, _)| import == name)
    }
}

/// Reads the paths of a file.
struct Reader {
    names: Names,
    is_root: bool,
    children: BTreeSet<String>,
    module: Module,
}

impl Reader {
    fn import(&mut self, item: &syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Use(declaration) => {
                let mut leaves = Vec::new();
                flatten(&declaration.tree, &mut Vec::new(), &mut leaves);
                let is_table = self.is_root && !matches!(declaration.vis, syn::Visibility::Inherited);
                for (name, path) in leaves {
                    if let Some(path) = self.full(&path) {
                        // A table of contents passes names on without needing them.
                        if !is_table {
                            self.module.uses.push(path.clone());
                        }
                        self.module.imports.push((name, path));
                    }
                }
            }
            syn::Item::Const(item) => self.define(&item.ident),
            syn::Item::Enum(item) => self.define(&item.ident),
            syn::Item::Fn(item) => self.define(&item.sig.ident),
            syn::Item::Static(item) => self.define(&item.ident),
            syn::Item::Struct(item) => self.define(&item.ident),
            syn::Item::Trait(item) => self.define(&item.ident),
            syn::Item::Type(item) => self.define(&item.ident),
            _ => {}
        }
    }

    fn define(&mut self, name: &syn::Ident) {
        self.module.items.insert(name.to_string());
    }

    /// The full path of one that begins with `crate`, `self`, `super` or a child module; nothing for other crates'.
    fn full(&self, path: &[String]) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([self.names.as_slice(), rest].concat()),
            "super" => {
                let mut module = self.names.clone();
                module.pop();
                let above = rest.iter().take_while(|name| *name == "super").count();
                module.truncate(module.len().saturating_sub(above));
                Some([module.as_slice(), rest.get(above..)?].concat())
            }
            child if self.children.contains(child) => Some([self.names.as_slice(), path].concat()),
            _ => None,
        }
    }

    /// Notes a path in the code. It may begin with an imported name: a module, or a type that a re-export names.
    fn note(&mut self, path: &[String]) {
        let imported = path.split_first().and_then(|(first, rest)| {
            let (_, target) = self.module.imports.iter().find(|(name, _)| name == first)?;
            Some([target.as_slice(), rest].concat())
        });
        self.module.uses.extend(self.full(path).or(imported));
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if !matches!(item, syn::ImplItem::Fn(function) if is_for_tests(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    /// The arguments of a macro are tokens: paths are what `::` joins.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let tokens = call.tokens.to_string().replace(" :: ", "::").replace(":: ", "::");
        for path in tokens.split(|each: char| !each.is_alphanumeric() && !"_:".contains(each)) {
            let names: Vec<_> = path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            if path.contains("::") {
                self.note(&names);
            }
        }
        visit::visit_macro(self, call);
    }
}

/// The names that a `use` brings in, each with its path.
fn flatten(tree: &syn::UseTree, before: &mut Names, leaves: &mut Vec<(String, Names)>) {
    match tree {
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
        syn::UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten(tree, before, leaves));
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            leaves.extend(before.last().cloned().map(|name| (name, before.clone())));
        }
        syn::UseTree::Name(name) => {
            let name = name.ident.to_string();
            leaves.push((name.clone(), [before.as_slice(), &[name]].concat()));
        }
        syn::UseTree::Rename(rename) if rename.ident == "self" => {
            leaves.push((rename.rename.to_string(), before.clone()));
        }
        syn::UseTree::Rename(rename) => {
            let path = [before.as_slice(), &[rename.ident.to_string()]].concat();
            leaves.push((rename.rename.to_string(), path));
        }
        syn::UseTree::Glob(_) => leaves.push(("*".to_owned(), before.clone())),
    }
}
