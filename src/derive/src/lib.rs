//! `#[derive(Tree)]` for structs of lehr tensors.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Field, Fields, Index, Member, parse_macro_input, spanned::Spanned};

/// Implements `lehr::Tree` for a struct whose fields are trees.
///
/// Leaves are named by the path of fields: `hidden.weight`. A field marked `#[tree(skip)]` is cloned and has no leaves.
/// A field whose type is a parameter of the struct must map to itself, as tensors and derived structs do.
#[proc_macro_derive(Tree, attributes(tree))]
pub fn derive_tree(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "Tree can be derived for structs only"));
    };
    let (mut visits, mut maps) = (Vec::new(), Vec::new());
    let mut generics = input.generics.clone();
    let parameters: Vec<_> = input.generics.type_params().map(|p| p.ident.clone()).collect();
    for (i, field) in data.fields.iter().enumerate() {
        let member = match &field.ident {
            Some(ident) => Member::Named(ident.clone()),
            None => Member::Unnamed(Index::from(i)),
        };
        if is_skipped(field)? {
            maps.push(quote!(#member: ::core::clone::Clone::clone(&self.#member)));
            continue;
        }
        let name = match &field.ident {
            Some(ident) => ident.to_string().trim_start_matches("r#").to_owned(),
            None => i.to_string(),
        };
        visits.push(quote!(path.within(#name, |path| ::lehr::Tree::visit(&self.#member, path, f));));
        maps.push(quote!(#member: path.within(#name, |path| ::lehr::Tree::map(&self.#member, path, f))));
        let ty = &field.ty;
        if mentions(ty, &parameters) {
            generics.make_where_clause().predicates.push(syn::parse_quote!(#ty: ::lehr::Tree<Mapped = #ty>));
        }
    }
    let name = &input.ident;
    let (impls, types, wheres) = generics.split_for_impl();
    let build = match &data.fields {
        Fields::Unit => quote!(Self),
        Fields::Named(_) | Fields::Unnamed(_) => quote!(Self { #(#maps),* }),
    };
    Ok(quote! {
        #[automatically_derived]
        impl #impls ::lehr::Tree for #name #types #wheres {
            type Mapped = Self;

            #[allow(unused_variables)]
            fn visit(&self, path: &mut ::lehr::tree::Path, f: &mut dyn FnMut(&::lehr::tree::Path, &::lehr::Tensor)) {
                #(#visits)*
            }

            #[allow(unused_variables)]
            fn map(
                &self,
                path: &mut ::lehr::tree::Path,
                f: &mut dyn FnMut(&::lehr::tree::Path, &::lehr::Tensor) -> ::lehr::Tensor,
            ) -> Self {
                #build
            }
        }
    })
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

/// Whether a type names one of the struct's type parameters.
fn mentions(ty: &syn::Type, parameters: &[syn::Ident]) -> bool {
    fn any(stream: TokenStream, parameters: &[syn::Ident]) -> bool {
        stream.into_iter().any(|t| match t {
            proc_macro2::TokenTree::Ident(i) => parameters.contains(&i),
            proc_macro2::TokenTree::Group(g) => any(g.stream(), parameters),
            _ => false,
        })
    }
    any(quote!(#ty), parameters)
}
