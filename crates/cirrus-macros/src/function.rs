//! What a function must look like to be a task.
//!
//! Owns the checks of the signature. Knows no resource and writes no code.
//! A [`Function`] that was made can be called with a context and at most one value.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType, Safety, Signature, Token, Type};

const NAME_LEN_MAX: usize = 64;

/// What the expansion needs to know of a function that can be a task.
pub(crate) struct Function<'a> {
    /// The task's name.
    pub(crate) name: String,
    /// The type of the first parameter.
    pub(crate) ctx: &'a Type,
    /// The type of the second parameter, if there is one.
    pub(crate) args: Option<&'a Type>,
    /// The type that comes back, or that the future brings.
    pub(crate) output: &'a Type,
    /// Whether the body is a future.
    pub(crate) is_async: bool,
}

impl<'a> Function<'a> {
    /// Checks the signature.
    pub(crate) fn check(signature: &'a Signature) -> Result<Self, Error> {
        check_kind(signature)?;
        let name = check_name(signature)?;
        let (ctx, args) = check_parameters(signature)?;
        let ReturnType::Type(_, output) = &signature.output else {
            let message = "a task returns a result; write `-> cirrus::Result<()>`";
            return Err(Error::new(signature.ident.span(), message));
        };
        Ok(Self { name, ctx, args, output, is_async: signature.asyncness.is_some() })
    }
}

/// Reads the item that the attribute stands on.
pub(crate) fn parse(item: TokenStream) -> Result<ItemFn, Error> {
    syn::parse2(item.clone()).map_err(|error| match syn::parse2::<syn::Item>(item.clone()) {
        Ok(_) => {
            let expected = "expected `fn name(ctx: Context, args: Args) -> cirrus::Result<()>`";
            let first = item.into_iter().find(|token| !is_attribute(token));
            Error::new(first.map_or(error.span(), |token| token.span()), expected)
        }
        Err(_) => error,
    })
}

/// Whether the token begins or is the body of an attribute such as a doc comment.
fn is_attribute(token: &TokenTree) -> bool {
    match token {
        TokenTree::Punct(punct) => punct.as_char() == '#',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Bracket,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    }
}

fn check_kind(signature: &Signature) -> Result<(), Error> {
    if let Some(receiver) = receiver(signature) {
        let message = "a task is a free function; move it out of the `impl` and drop `self`";
        return Err(Error::new_spanned(receiver, message));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        let message = "a task cannot be unsafe; put an `unsafe` block into its body";
        return Err(Error::new_spanned(token, message));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new_spanned(abi, "a task cannot be extern; drop `extern`"));
    }
    if let Some(first) = signature.generics.params.first() {
        let message = format!("a task cannot be generic; {GENERIC_HINT}");
        return Err(Error::new_spanned(first, message));
    }
    if let Some(clause) = &signature.generics.where_clause {
        return Err(Error::new_spanned(clause, "a task cannot have a `where` clause; drop it"));
    }
    Ok(())
}

const GENERIC_HINT: &str = "write the type: other machines must know what to run";

/// The `self` parameter, if there is one.
pub(crate) fn receiver(signature: &Signature) -> Option<&syn::Receiver> {
    signature.inputs.iter().find_map(|input| match input {
        FnArg::Receiver(receiver) => Some(receiver),
        FnArg::Typed(_) => None,
    })
}

fn check_name(signature: &Signature) -> Result<String, Error> {
    let name = signature.ident.unraw().to_string();
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.len() > NAME_LEN_MAX || !name.bytes().all(allowed) {
        let expected = format!("expected 1 to {NAME_LEN_MAX} of a-z, 0-9 and _");
        let message = format!("`{name}` cannot name a task; {expected}");
        return Err(Error::new(signature.ident.span(), message));
    }
    Ok(name)
}

fn check_parameters(signature: &Signature) -> Result<(&Type, Option<&Type>), Error> {
    let expected = "expected `(ctx: Context)` or `(ctx: Context, args: Args)`";
    let types = types(&signature.inputs);
    for ty in &types {
        match ty {
            Type::Reference(_) => {
                let message = "a task owns its parameters; take them by value, without `&`";
                return Err(Error::new_spanned(ty, message));
            }
            Type::ImplTrait(_) => {
                let message = format!("a task cannot be generic; {GENERIC_HINT}");
                return Err(Error::new_spanned(ty, message));
            }
            _ => {}
        }
    }
    match types.as_slice() {
        [] => Err(Error::new(signature.paren_token.span.join(), expected)),
        [ctx] => Ok((ctx, None)),
        [ctx, args] => Ok((ctx, Some(args))),
        [_, _, third, ..] => {
            let message = format!("{expected}; put further values into `Args`");
            Err(Error::new(third.span(), message))
        }
    }
}

fn types(inputs: &Punctuated<FnArg, Token![,]>) -> Vec<&Type> {
    let typed = inputs.iter().filter_map(|input| match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(typed) => Some(typed.ty.as_ref()),
    });
    typed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(String, Option<String>, bool), String> {
        let function = parse(text.parse().unwrap()).map_err(|error| error.to_string())?;
        let checked = Function::check(&function.sig).map_err(|error| error.to_string())?;
        let args = checked.args.map(|args| quote::quote!(#args).to_string());
        Ok((checked.name, args, checked.is_async))
    }

    #[test]
    fn functions_that_can_be_tasks_are_taken() {
        let args = Some("Args".to_owned());
        for (text, expected) in [
            ("fn a(ctx: Context) -> R {}", ("a", None, false)),
            ("pub(crate) fn b_2(_: Context, args: Args) -> R {}", ("b_2", args.clone(), false)),
            ("async fn r#try(ctx: Context, Args { n }: Args) -> R {}", ("try", args, true)),
        ] {
            let (name, args, is_async) = expected;
            assert_eq!(check(text), Ok((name.to_owned(), args, is_async)), "{text}");
        }
    }

    #[test]
    fn a_message_says_what_to_change() {
        let long = format!("fn {}(ctx: C) -> R {{}}", "a".repeat(65));
        for (text, start) in [
            ("struct S;", "expected `fn name(ctx: Context, args: Args) -> cirrus::Result<()>`"),
            ("/// Doc.\nmod m {}", "expected `fn name("),
            ("fn f(&self, ctx: C) -> R {}", "a task is a free function"),
            ("unsafe fn f(ctx: C) -> R {}", "a task cannot be unsafe"),
            ("extern \"C\" fn f(ctx: C) -> R {}", "a task cannot be extern"),
            ("fn f<T>(ctx: C, args: T) -> R {}", "a task cannot be generic"),
            ("fn f(ctx: C, args: impl Sized) -> R {}", "a task cannot be generic"),
            ("fn f(ctx: C) -> R where C: Sized {}", "a task cannot have a `where` clause"),
            ("fn f() -> R {}", "expected `(ctx: Context)` or `(ctx: Context, args: Args)`"),
            ("fn f(ctx: C, a: A, b: B) -> R {}", "expected `(ctx: Context)`"),
            ("fn f(ctx: &C) -> R {}", "a task owns its parameters"),
            ("fn f(ctx: C) {}", "a task returns a result; write `-> cirrus::Result<()>`"),
            ("fn Decode(ctx: C) -> R {}", "`Decode` cannot name a task; expected 1 to 64 of a-z"),
            ("fn straße(ctx: C) -> R {}", "`straße` cannot name a task"),
            (long.as_str(), "`aaa"),
        ] {
            let message = check(text).unwrap_err();
            assert!(message.starts_with(start), "{text}: {message}");
        }
    }
}
