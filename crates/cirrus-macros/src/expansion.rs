//! What the attribute writes.
//!
//! Owns the names it uses of the crate `cirrus`: `Task`, `TaskArgs`, `block_on` and `plan`.
//! The function itself is never changed, and an error leaves `task()` callable, so that a mistake
//! in one place brings no second error in another.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Ident, ItemFn, Type};

use crate::annotation::{Annotation, Cpu, Gpu, Replicas};
use crate::function::{self, Function};

/// The function, and beside it a type of the same name with `task()`.
pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let (annotation, wrong_annotation) = Annotation::parse(attribute);
    let wrong_annotation = wrong_annotation.map(Error::into_compile_error);
    let function = match function::parse(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let wrong_item = error.into_compile_error();
            return quote!(#item #wrong_annotation #wrong_item);
        }
    };
    if let Some(error) = receiver_error(&function) {
        // A type beside it would be a further error: no `impl` can hold one.
        return quote!(#wrong_annotation #error);
    }
    let (task, wrong_function) = match Function::check(&function.sig) {
        Ok(checked) => (definition(&function, &checked, &annotation), None),
        Err(error) => (unknown(), Some(error.into_compile_error())),
    };
    let companion = companion(&function, &task);
    quote! {
        #function
        #companion
        #wrong_annotation
        #wrong_function
    }
}

fn receiver_error(function: &ItemFn) -> Option<TokenStream> {
    function::receiver(&function.sig)?;
    Function::check(&function.sig).err().map(Error::into_compile_error)
}

/// The type that carries `task()`. It has braces because such a type takes no name among values,
/// where the function's own is.
fn companion(function: &ItemFn, task: &TokenStream) -> TokenStream {
    let (vis, ident) = (&function.vis, &function.sig.ident);
    let of_type = format!("The task `{ident}`: `{ident}::task()` is what an application runs.");
    let of_task = format!("The definition of the task `{ident}`, for an application.");
    quote! {
        #[doc = #of_type]
        #[allow(non_camel_case_types, reason = "a task is named like its function")]
        #vis struct #ident {}

        impl #ident {
            #[doc = #of_task]
            #vis #task
        }
    }
}

fn definition(item: &ItemFn, function: &Function<'_>, annotation: &Annotation) -> TokenStream {
    let (ident, name) = (&item.sig.ident, &function.name);
    let demand = demand(annotation);
    let run = run(ident, function);
    let signature = signature(function.args.map(|args| quote!(#args)));
    quote!(#signature { ::cirrus::Task::new(#name, #demand, #run) })
}

/// The body as a plain `fn(Context, Args)`. What can have a wrong type is placed where the person
/// wrote that type, so that the compiler's own error points there.
fn run(ident: &Ident, function: &Function<'_>) -> TokenStream {
    let at = |ty: &Type| Span::call_site().located_at(ty.span());
    let (ctx, result) = (Ident::new("ctx", at(function.ctx)), at(function.output));
    let (args, call) = match function.args {
        Some(_) => (quote!(args), quote_spanned!(result=> #ident(#ctx, args))),
        None => (quote!(_), quote_spanned!(result=> #ident(#ctx))),
    };
    if function.is_async {
        quote_spanned!(result=> |#ctx, #args| ::cirrus::block_on(#call))
    } else {
        quote_spanned!(result=> |#ctx, #args| #call)
    }
}

/// Stands for the definition of a function that cannot be a task: it fits every application.
fn unknown() -> TokenStream {
    let signature = signature(None);
    quote!(#signature { ::core::unreachable!("a task that did not compile") })
}

/// A task that takes no arguments runs in an application with any.
fn signature(args: Option<TokenStream>) -> TokenStream {
    match args {
        Some(args) => quote!(fn task() -> ::cirrus::Task<#args>),
        None => quote!(fn task<A: ::cirrus::TaskArgs>() -> ::cirrus::Task<A>),
    }
}

fn demand(annotation: &Annotation) -> TokenStream {
    let Annotation { cpu, memory, gpu, disk, network, spot, replicas } = annotation;
    let cpu = cpu.as_ref().map(|cpu| {
        let (kind, cores) = match cpu {
            Cpu::Sustained(cores) => (quote!(sustained), cores),
            Cpu::Burst(cores) => (quote!(burst), cores),
        };
        let milli = cores.as_milli();
        quote!(.with_cpu(::cirrus::plan::Cpu::#kind(::cirrus::plan::units::Cores::milli(#milli))))
    });
    let size = |with: &str, size: &Option<cirrus_units::ByteSize>| {
        let with = Ident::new(with, Span::call_site());
        let bytes = size.as_ref()?.bytes();
        Some(quote!(.#with(::cirrus::plan::units::ByteSize::new(#bytes))))
    };
    let (memory, disk) = (size("with_memory", memory), size("with_disk", disk));
    let gpu = gpu.as_ref().map(with_gpu);
    let network = network.map(|rate| {
        let bytes = rate.bytes_per_second();
        quote!(.with_network(::cirrus::plan::units::ByteRate::per_second(#bytes)))
    });
    let spot = spot.map(|spot| quote!(.with_spot(#spot)));
    let replicas = replicas.as_ref().map(with_replicas);
    quote!(::cirrus::plan::Demand::default() #cpu #memory #gpu #disk #network #spot #replicas)
}

fn with_gpu(Gpu { count, kind }: &Gpu) -> TokenStream {
    let of_kind = kind.as_ref().map(|kind| quote!(.of_kind(#kind)));
    let count = checked(
        &quote!(::core::num::NonZeroU32::new(#count)),
        &quote!(::core::option::Option::Some),
        &quote!(::core::option::Option::None),
    );
    quote!(.with_gpu(::cirrus::plan::Gpu::new(#count) #of_kind))
}

fn with_replicas(Replicas { min, max }: &Replicas) -> TokenStream {
    let replicas = checked(
        &quote!(::cirrus::plan::Replicas::new(#min, #max)),
        &quote!(::core::result::Result::Ok),
        &quote!(::core::result::Result::Err(_)),
    );
    quote!(.with_replicas(#replicas))
}

/// A value that the annotation has checked already. Should the two checks ever differ, the
/// program does not compile, rather than panic.
fn checked(value: &TokenStream, right: &TokenStream, wrong: &TokenStream) -> TokenStream {
    quote! {
        const {
            match #value {
                #right(value) => value,
                #wrong => ::core::panic!("the attribute accepts what the demand refuses"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: &str, item: &str) -> String {
        expand(attribute.parse().unwrap(), item.parse().unwrap()).to_string()
    }

    fn holds(code: &str, part: TokenStream) {
        assert!(code.contains(&part.to_string()), "no `{part}` in: {code}");
    }

    #[test]
    fn the_function_is_kept_and_a_type_stands_beside_it() {
        let item = "/// Decodes.\npub(crate) fn decode(ctx: Context, args: Args) -> R { body() }";
        let code = expanded("cpu = 1, memory = \"1KiB\"", item);
        let kept = item.parse::<TokenStream>().unwrap().to_string();
        assert!(code.starts_with(&kept), "{code}");
        holds(
            &code,
            quote!(
                pub(crate) struct decode {}
            ),
        );
        holds(&code, quote!(pub(crate) fn task() -> ::cirrus::Task<Args>));
        holds(&code, quote!(::cirrus::plan::Demand::default().with_cpu));
        holds(&code, quote!(::cirrus::plan::units::ByteSize::new(1024u64)));
        assert!(!code.contains("with_gpu") && !code.contains("with_replicas"), "{code}");
    }

    #[test]
    fn a_task_without_arguments_fits_every_application() {
        let code = expanded("", "async fn f(ctx: Context) -> R { body() }");
        holds(&code, quote!(fn task<A: ::cirrus::TaskArgs>() -> ::cirrus::Task<A>));
        holds(&code, quote!(|ctx, _| ::cirrus::block_on(f(ctx))));
    }

    #[test]
    fn an_error_leaves_the_function_and_its_task() {
        for (attribute, item) in [
            ("memroy = 1", "fn f(ctx: C, args: A) -> R { body() }"),
            ("", "fn f(ctx: C, args: A) { body() }"),
        ] {
            let code = expanded(attribute, item);
            assert!(code.contains(&item.parse::<TokenStream>().unwrap().to_string()), "{code}");
            assert!(code.contains("fn task") && code.contains("compile_error"), "{code}");
        }
        let code = expanded("", "fn f(self, ctx: C) -> R { body() }");
        assert!(!code.contains("fn") && code.contains("compile_error"), "{code}");
        let code = expanded("", "struct S;");
        assert!(code.contains("struct S ;") && code.contains("compile_error"), "{code}");
    }
}
