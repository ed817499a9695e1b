//! `#[derive(Tree)]` for structs and enums of lehr tensors.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Field, Fields, Ident, Member, parse_macro_input, spanned::Spanned};

/// Implements `lehr::Tree` for a struct or an enum whose fields are trees.
///
/// Leaves are named by the path of fields, `hidden.weight`; fields without names by their position, `hidden[0]`. A variant's
/// name is no part of the path. A field marked `#[tree(skip)]` is cloned and has no leaves.
/// A field whose type is a parameter of the structure must map to itself, as tensors and derived structures do.
#[proc_macro_derive(Tree, attributes(tree))]
pub fn derive_tree(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// The arms of two matches over one value: what visits its leaves, and what maps them.
#[derive(Default)]
struct Arms {
    visits: Vec<TokenStream>,
    maps: Vec<TokenStream>,
}

fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let parameters: Vec<Ident> = input.generics.type_params().map(|p| p.ident.clone()).collect();
    let own = [input.ident.clone(), format_ident!("Self")];
    let mut generics = input.generics.clone();
    let mut arms = Arms::default();
    let mut variant = |path: TokenStream, fields: &Fields| -> syn::Result<()> {
        arms.add(&path, fields)?;
        for field in fields {
            let ty = &field.ty;
            // A bound on the structure itself would hold only if it holds.
            if !is_skipped(field)? && mentions(ty, &parameters) && !mentions(ty, &own) {
                generics.make_where_clause().predicates.push(syn::parse_quote!(#ty: ::lehr::Tree<Mapped = #ty>));
            }
        }
        Ok(())
    };
    match &input.data {
        Data::Struct(data) => variant(quote!(Self), &data.fields)?,
        Data::Enum(data) => {
            for v in &data.variants {
                let name = &v.ident;
                variant(quote!(Self::#name), &v.fields)?;
            }
        }
        Data::Union(_) => {
            return Err(syn::Error::new(
                input.span(),
                "Tree can be derived for structs and enums; a union has no leaves",
            ));
        }
    }
    let Arms { visits, maps } = arms;
    // A match on no variants needs the value itself.
    let subject = if visits.is_empty() { quote!(*self) } else { quote!(self) };
    let name = &input.ident;
    let (impls, types, wheres) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impls ::lehr::Tree for #name #types #wheres {
            type Mapped = Self;
            type Each<__Leaf> = ::lehr::tree::Named<__Leaf>;

            #[allow(unused_variables)]
            fn visit(&self, path: &mut ::lehr::tree::Path, f: &mut dyn FnMut(&::lehr::tree::Path, &::lehr::Tensor)) {
                match #subject { #(#visits)* }
            }

            #[allow(unused_variables)]
            fn map(
                &self,
                path: &mut ::lehr::tree::Path,
                f: &mut dyn FnMut(&::lehr::tree::Path, &::lehr::Tensor) -> ::lehr::Tensor,
            ) -> Self {
                match #subject { #(#maps)* }
            }

            fn each<__Leaf>(
                &self,
                path: &mut ::lehr::tree::Path,
                f: &mut dyn FnMut(&::lehr::tree::Path, &::lehr::Tensor) -> __Leaf,
            ) -> ::lehr::tree::Named<__Leaf> {
                ::lehr::tree::Named::of(self, path, f)
            }
        }
    })
}

impl Arms {
    fn add(&mut self, path: &TokenStream, fields: &Fields) -> syn::Result<()> {
        let (mut bound, mut visits, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for (i, field) in fields.iter().enumerate() {
            let member = match &field.ident {
                Some(ident) => Member::Named(ident.clone()),
                None => Member::Unnamed(i.into()),
            };
            // A name that no field type or function of the generated code has.
            let local = format_ident!("__field_{i}");
            bound.push(quote!(#member: #local));
            if is_skipped(field)? {
                maps.push(quote!(#member: ::core::clone::Clone::clone(#local)));
                continue;
            }
            let (method, at) = match &field.ident {
                Some(ident) => {
                    let name = ident.to_string().trim_start_matches("r#").to_owned();
                    (format_ident!("within"), quote!(#name))
                }
                None => (format_ident!("within_index"), quote!(#i)),
            };
            visits.push(quote!(path.#method(#at, |path| ::lehr::Tree::visit(#local, path, f));));
            maps.push(quote!(#member: path.#method(#at, |path| ::lehr::Tree::map(#local, path, f))));
        }
        self.visits.push(quote!(#path { #(#bound),* } => { #(#visits)* }));
        self.maps.push(quote!(#path { #(#bound),* } => #path { #(#maps),* },));
        Ok(())
    }
}

/// Whether a field is marked `#[tree(skip)]`.
fn is_skipped(field: &Field) -> syn::Result<bool> {
    let mut skipped = false;
    for attr in field.attrs.iter().filter(|a| a.path().is_ident("tree")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skipped = true;
                Ok(())
            } else {
                Err(meta.error("the only mark is `skip`"))
            }
        })?;
    }
    Ok(skipped)
}

/// Whether a type contains one of some names.
fn mentions(ty: &syn::Type, names: &[Ident]) -> bool {
    fn any(stream: TokenStream, names: &[Ident]) -> bool {
        stream.into_iter().any(|t| match t {
            proc_macro2::TokenTree::Ident(i) => names.contains(&i),
            proc_macro2::TokenTree::Group(g) => any(g.stream(), names),
            _ => false,
        })
    }
    any(quote!(#ty), names)
}
