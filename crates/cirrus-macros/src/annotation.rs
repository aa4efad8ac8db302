//! What stands between the parentheses of the attribute.
//!
//! Owns [`Annotation`] and every message about it. Knows no function and writes no code.
//! An `Annotation` holds only what a demand can hold; each error points at the tokens it is about.

use std::fmt::Display;
use std::str::FromStr;

use cirrus_units::{ByteRate, ByteSize, Cores};
use proc_macro2::{Delimiter, Ident, Literal, TokenStream, TokenTree};
use syn::{Error, Lit};

/// The most replicas of a task: `cirrus_plan::Replicas::LIMIT`, which a macro cannot afford to
/// depend on. The expansion fails to compile, and a test fails, where the two differ.
const REPLICAS_MAX: u32 = 65_536;

/// What a person asked for; `None` leaves the default of `cirrus_plan::Demand`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Annotation {
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<ByteSize>,
    pub(crate) gpu: Option<Gpu>,
    pub(crate) disk: Option<ByteSize>,
    pub(crate) network: Option<ByteRate>,
    pub(crate) spot: Option<bool>,
    pub(crate) replicas: Option<Replicas>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Cpu {
    Sustained(Cores),
    Burst(Cores),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Gpu {
    /// At least 1.
    pub(crate) count: u32,
    pub(crate) kind: Option<String>,
}

/// `1 <= min <= max <= REPLICAS_MAX`.
#[derive(Debug, PartialEq)]
pub(crate) struct Replicas {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl Annotation {
    /// Reads all of it. The errors are of every wrong entry, and the right ones are kept.
    pub(crate) fn parse(tokens: TokenStream) -> (Self, Option<Error>) {
        let tokens = flatten(tokens);
        let mut annotation = Self::default();
        let mut given = Vec::new();
        let mut errors: Option<Error> = None;
        for entry in tokens.split_inclusive(is_comma) {
            if let Err(error) = annotation.read(entry, &mut given) {
                match &mut errors {
                    Some(errors) => errors.combine(error),
                    None => errors = Some(error),
                }
            }
        }
        (annotation, errors)
    }

    fn read(&mut self, entry: &[TokenTree], given: &mut Vec<Resource>) -> Result<(), Error> {
        let (resource, name, rest) = match entry {
            [TokenTree::Ident(name), rest @ .., comma] if is_comma(comma) => {
                (Resource::named(name)?, name, rest)
            }
            [TokenTree::Ident(name), rest @ ..] => (Resource::named(name)?, name, rest),
            _ => {
                let expected = format!("expected one of {}", Resource::names());
                return Err(error_at(entry, expected));
            }
        };
        if given.contains(&resource) {
            return Err(Error::new(name.span(), format!("`{name}` is given twice; keep one")));
        }
        given.push(resource);
        let value = match rest {
            [] if resource == Resource::Spot => {
                self.spot = Some(true);
                return Ok(());
            }
            [TokenTree::Punct(equals), value @ ..] if equals.as_char() == '=' => value,
            _ => &[],
        };
        if value.is_empty() {
            let message = format!("`{name}` needs a value; expected {}", resource.form());
            return Err(Error::new(name.span(), message));
        }
        match resource {
            Resource::Cpu => self.cpu = Some(cpu(value)?),
            Resource::Memory => self.memory = Some(quoted(resource, value)?),
            Resource::Gpu => self.gpu = Some(gpu(value)?),
            Resource::Disk => self.disk = Some(quoted(resource, value)?),
            Resource::Network => self.network = Some(quoted(resource, value)?),
            Resource::Spot => self.spot = Some(spot(value)?),
            Resource::Replicas => self.replicas = Some(replicas(value)?),
        }
        Ok(())
    }
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Resource {
    Cpu,
    Memory,
    Gpu,
    Disk,
    Network,
    Spot,
    Replicas,
}

impl Resource {
    const ALL: [Self; 7] =
        [Self::Cpu, Self::Memory, Self::Gpu, Self::Disk, Self::Network, Self::Spot, Self::Replicas];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Gpu => "gpu",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Spot => "spot",
            Self::Replicas => "replicas",
        }
    }

    /// How it is written.
    fn form(self) -> &'static str {
        match self {
            Self::Cpu => "cpu = 1, cpu = 0.5 or cpu = burst(0.5)",
            Self::Memory => "memory = \"512MiB\"",
            Self::Gpu => "gpu = 1 or gpu = h100(2)",
            Self::Disk => "disk = \"10GiB\"",
            Self::Network => "network = \"1Gbit/s\"",
            Self::Spot => "spot, spot = true or spot = false",
            Self::Replicas => "replicas = 4 or replicas = 1..=64",
        }
    }

    /// The unit that most people mean; empty where none is written.
    fn unit(self) -> &'static str {
        match self {
            Self::Memory => "MiB",
            Self::Disk => "GiB",
            Self::Network => "Gbit/s",
            Self::Cpu | Self::Gpu | Self::Spot | Self::Replicas => "",
        }
    }

    fn named(name: &Ident) -> Result<Self, Error> {
        let text = name.to_string();
        if let Some(resource) = Self::ALL.into_iter().find(|resource| resource.name() == text) {
            return Ok(resource);
        }
        let hint = Self::nearest(&text)
            .map_or(String::new(), |near| format!("did you mean `{}`? ", near.name()));
        let names = Self::names();
        let message = format!("unknown resource `{text}`; {hint}expected one of {names}");
        Err(Error::new(name.span(), message))
    }

    fn nearest(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let begun = |resource: &Self| text.len() > 1 && resource.name().starts_with(&text);
        Self::ALL.into_iter().find(begun).or_else(|| {
            Self::ALL
                .into_iter()
                .map(|resource| (edits(&text, resource.name()), resource))
                .filter(|(edits, resource)| *edits <= 2 && *edits < resource.name().len() - 1)
                .min_by_key(|(edits, _)| *edits)
                .map(|(_, resource)| resource)
        })
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    fn unexpected(self, value: &[TokenTree]) -> Error {
        error_at(value, format!("expected {}", self.form()))
    }
}

fn cpu(value: &[TokenTree]) -> Result<Cpu, Error> {
    match value {
        [TokenTree::Literal(number)] => cores(number).map(Cpu::Sustained),
        [TokenTree::Ident(word), TokenTree::Group(group)]
            if word == "burst" && group.delimiter() == Delimiter::Parenthesis =>
        {
            match flatten(group.stream()).as_slice() {
                [TokenTree::Literal(number)] => cores(number).map(Cpu::Burst),
                _ => Err(Error::new(group.span(), "expected a number of cores: burst(0.5)")),
            }
        }
        _ => Err(Resource::Cpu.unexpected(value)),
    }
}

fn cores(literal: &Literal) -> Result<Cores, Error> {
    let expected = "expected a number of cores without quotes or unit: 1, 0.5 or burst(0.5)";
    let text = match Lit::new(literal.clone()) {
        Lit::Int(number) if number.suffix().is_empty() => number.base10_digits().to_owned(),
        Lit::Float(number) if number.suffix().is_empty() => number.base10_digits().to_owned(),
        _ => return Err(Error::new(literal.span(), expected)),
    };
    text.parse().map_err(|error| Error::new(literal.span(), error))
}

/// A number with its unit, in quotes, read by the code that reads the flags of the command line.
fn quoted<T>(resource: Resource, value: &[TokenTree]) -> Result<T, Error>
where
    T: FromStr<Err: Display> + Default + PartialEq,
{
    let [TokenTree::Literal(first), rest @ ..] = value else {
        return Err(resource.unexpected(value));
    };
    let bare = match Lit::new(first.clone()) {
        Lit::Str(text) if rest.is_empty() => {
            let amount: T = text.value().parse().map_err(|error| error_at(value, error))?;
            if amount == T::default() {
                let (text, name) = (text.value(), resource.name());
                let message =
                    format!("`{text}` asks for nothing; leave `{name}` out, or ask for more");
                return Err(error_at(value, message));
            }
            return Ok(amount);
        }
        Lit::Int(number) => number.suffix().is_empty() && rest.is_empty(),
        Lit::Float(number) => number.suffix().is_empty() && rest.is_empty(),
        _ => return Err(resource.unexpected(value)),
    };
    let text: String = value.iter().map(TokenTree::to_string).collect();
    Err(error_at(
        value,
        if bare {
            format!("write the unit: \"{text}{}\"", resource.unit())
        } else {
            format!("write it in quotes: \"{text}\"")
        },
    ))
}

fn gpu(value: &[TokenTree]) -> Result<Gpu, Error> {
    let nothing = "`0` asks for nothing; leave `gpu` out, or ask for more";
    let counted = |literal: &Literal, kind: Option<String>| match count(Resource::Gpu, literal)? {
        0 => Err(Error::new(literal.span(), nothing)),
        count => Ok(Gpu { count, kind }),
    };
    match value {
        [TokenTree::Literal(number)] => counted(number, None),
        [TokenTree::Ident(kind)] => {
            let message = format!("expected how many: gpu = {kind}(1)");
            Err(Error::new(kind.span(), message))
        }
        [TokenTree::Ident(kind), TokenTree::Group(group)]
            if group.delimiter() == Delimiter::Parenthesis =>
        {
            let name = kind.to_string();
            if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                let message = format!("kind `{name}` has more than a-z, 0-9 and _; expected h100");
                return Err(Error::new(kind.span(), message));
            }
            match flatten(group.stream()).as_slice() {
                [TokenTree::Literal(number)] => counted(number, Some(name)),
                _ => Err(Error::new(group.span(), format!("expected how many: {name}(1)"))),
            }
        }
        _ => Err(Resource::Gpu.unexpected(value)),
    }
}

fn spot(value: &[TokenTree]) -> Result<bool, Error> {
    match value {
        [TokenTree::Ident(word)] if word == "true" => Ok(true),
        [TokenTree::Ident(word)] if word == "false" => Ok(false),
        _ => Err(Resource::Spot.unexpected(value)),
    }
}

fn replicas(value: &[TokenTree]) -> Result<Replicas, Error> {
    let (min, max) = match value {
        [TokenTree::Literal(number)] => {
            let number = count(Resource::Replicas, number)?;
            (number, number)
        }
        [TokenTree::Literal(first), dots @ .., TokenTree::Literal(last)] => {
            let first = count(Resource::Replicas, first)?;
            let last = count(Resource::Replicas, last)?;
            match dots.iter().map(TokenTree::to_string).collect::<String>().as_str() {
                "..=" => (first, last),
                ".." if first < last => {
                    let meant = format!("{first}..={}", last - 1);
                    let message = format!("`{first}..{last}` ends before {last}; write `{meant}`");
                    return Err(error_at(value, message));
                }
                ".." => return Err(error_at(value, format!("`{first}..{last}` is empty"))),
                _ => return Err(Resource::Replicas.unexpected(value)),
            }
        }
        _ => return Err(Resource::Replicas.unexpected(value)),
    };
    let problem = if min == 0 {
        "`0` is too few replicas; expected at least 1".to_owned()
    } else if min > max {
        format!("`{min}..={max}` is empty; write the smaller number first: `{max}..={min}`")
    } else if max > REPLICAS_MAX {
        format!("`{max}` is too many replicas; expected at most {REPLICAS_MAX}")
    } else {
        return Ok(Replicas { min, max });
    };
    Err(error_at(value, problem))
}

fn count(resource: Resource, literal: &Literal) -> Result<u32, Error> {
    match Lit::new(literal.clone()) {
        Lit::Int(number) if number.suffix().is_empty() => number.base10_parse().map_err(|_| {
            let message = format!("`{literal}` is too large; expected {}", resource.form());
            Error::new(literal.span(), message)
        }),
        _ => {
            let form = resource.form();
            let message = format!("`{literal}` is not a whole number; expected {form}");
            Err(Error::new(literal.span(), message))
        }
    }
}

/// The tokens without the invisible groups around what a `macro_rules!` macro passed on.
fn flatten(tokens: TokenStream) -> Vec<TokenTree> {
    let mut flat = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flat.extend(flatten(group.stream()));
            }
            token => flat.push(token),
        }
    }
    flat
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

/// An error that underlines all of these tokens; the whole attribute where there are none.
fn error_at(tokens: &[TokenTree], message: impl Display) -> Error {
    Error::new_spanned(tokens.iter().cloned().collect::<TokenStream>(), message)
}

/// How many letters to change, add, drop or swap with their neighbour to get from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(text: &str) -> Annotation {
        let (annotation, error) = Annotation::parse(text.parse().unwrap());
        assert!(error.is_none(), "{text}: {}", error.unwrap());
        annotation
    }

    fn wrong(text: &str) -> Vec<String> {
        let (_, error) = Annotation::parse(text.parse().unwrap());
        let error = error.unwrap_or_else(|| panic!("`{text}` is taken"));
        error.into_iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(right(""), Annotation::default());
        assert_eq!(right("cpu = 2,").cpu, Some(Cpu::Sustained(Cores::milli(2000))));
        assert_eq!(right("cpu = 0.5").cpu, Some(Cpu::Sustained(Cores::milli(500))));
        assert_eq!(right("cpu = burst(0.5)").cpu, Some(Cpu::Burst(Cores::milli(500))));
        assert_eq!(right("gpu = 1").gpu, Some(Gpu { count: 1, kind: None }));
        assert_eq!(right("gpu = h100(2)").gpu, Some(Gpu { count: 2, kind: Some("h100".into()) }));
        let all = right(r#"spot, memory = "512MiB", disk = "10 GiB", network = "8Mbit/s""#);
        assert_eq!(all.memory, Some(ByteSize::mib(512)));
        assert_eq!(all.disk, Some(ByteSize::gib(10)));
        assert_eq!(all.network, Some(ByteRate::per_second(1_000_000)));
        assert_eq!(all.spot, Some(true));
        assert_eq!(right("spot = true").spot, Some(true));
        assert_eq!(right("spot = false").spot, Some(false));
        assert_eq!(right("replicas = 4").replicas, Some(Replicas { min: 4, max: 4 }));
        let most = right("replicas = 1..=65_536").replicas;
        assert_eq!(most, Some(Replicas { min: 1, max: REPLICAS_MAX }));
    }

    #[test]
    fn the_limit_of_replicas_is_the_demands_own() {
        assert_eq!(REPLICAS_MAX, cirrus_plan::Replicas::LIMIT);
    }

    #[test]
    fn what_a_macro_passes_on_is_read() {
        let literal = TokenStream::from_str("\"1GiB\"").unwrap();
        let group = TokenTree::from(proc_macro2::Group::new(Delimiter::None, literal));
        let (annotation, error) = Annotation::parse(quote::quote!(memory = #group));
        assert!(error.is_none());
        assert_eq!(annotation.memory, Some(ByteSize::gib(1)));
    }

    #[test]
    fn names_are_checked() {
        const NAMES: &str = "expected one of cpu, memory, gpu, disk, network, spot, replicas";
        for (text, hint) in [
            ("memroy", "did you mean `memory`? "),
            ("mem", "did you mean `memory`? "),
            ("CPU", "did you mean `cpu`? "),
            ("cpus", "did you mean `cpu`? "),
            ("net", "did you mean `network`? "),
            ("relicas", "did you mean `replicas`? "),
            ("ram", ""),
            ("m", ""),
        ] {
            let message = format!("unknown resource `{text}`; {hint}{NAMES}");
            assert_eq!(wrong(&format!("{text} = 1")), [message]);
        }
        assert_eq!(wrong("cpu = 1, , spot"), [NAMES]);
        assert_eq!(wrong("1"), [NAMES]);
        assert_eq!(wrong("cpu = 1, cpu = 1"), ["`cpu` is given twice; keep one"]);
        for resource in Resource::ALL {
            assert_eq!(Resource::nearest(resource.name()), Some(resource));
        }
    }

    #[test]
    fn every_wrong_entry_is_named_and_the_right_ones_are_kept() {
        let text = "cpu = 0, memory = 512, spot";
        assert_eq!(wrong(text).len(), 2);
        let (annotation, _) = Annotation::parse(text.parse().unwrap());
        assert_eq!(annotation, Annotation { spot: Some(true), ..Annotation::default() });
    }

    #[test]
    fn a_message_says_what_to_write() {
        let cores = "expected a number of cores";
        for (text, start) in [
            ("cpu", "`cpu` needs a value; expected cpu = 1, cpu = 0.5 or cpu = burst(0.5)"),
            ("cpu(1)", "`cpu` needs a value; expected cpu = 1"),
            ("cpu = 0", "`0` is less than a thousandth of a core; expected a number of cores"),
            ("cpu = \"1\"", cores),
            ("cpu = 1u32", cores),
            ("cpu = burst", "expected cpu = 1, cpu = 0.5 or cpu = burst(0.5)"),
            ("cpu = burst()", "expected a number of cores: burst(0.5)"),
            ("cpu = -1", "expected cpu = 1"),
            ("memory = 512", "write the unit: \"512MiB\""),
            ("memory = 512MiB", "write it in quotes: \"512MiB\""),
            ("memory = \"512\"", "`512` has no unit; expected a number and a unit, such as"),
            ("memory = \"0B\"", "`0B` asks for nothing; leave `memory` out, or ask for more"),
            ("memory = lots", "expected memory = \"512MiB\""),
            ("disk = 1.5", "write the unit: \"1.5GiB\""),
            ("network = 1Gbit/s", "write it in quotes: \"1Gbit/s\""),
            ("network = \"1Gbit\"", "`1Gbit` does not end in /s; expected a size per second"),
            ("gpu = 0", "`0` asks for nothing"),
            ("gpu = h100", "expected how many: gpu = h100(1)"),
            ("gpu = h100(0)", "`0` asks for nothing"),
            ("gpu = H100(1)", "kind `H100` has more than a-z, 0-9 and _; expected h100"),
            ("gpu = 0.5", "`0.5` is not a whole number; expected gpu = 1 or gpu = h100(2)"),
            ("gpu = \"h100\"", "`\"h100\"` is not a whole number; expected gpu = 1"),
            ("spot = 1", "expected spot, spot = true or spot = false"),
            ("spot =", "`spot` needs a value; expected spot, spot = true or spot = false"),
            ("replicas = 0", "`0` is too few replicas; expected at least 1"),
            ("replicas = 0..=4", "`0` is too few replicas"),
            ("replicas = 1..64", "`1..64` ends before 64; write `1..=63`"),
            ("replicas = 4..4", "`4..4` is empty"),
            ("replicas = 8..=4", "`8..=4` is empty; write the smaller number first: `4..=8`"),
            ("replicas = 1..", "expected replicas = 4 or replicas = 1..=64"),
            ("replicas = 65_537", "`65537` is too many replicas; expected at most 65536"),
            ("replicas = 9999999999", "`9999999999` is too large; expected replicas = 4"),
        ] {
            let messages = wrong(text);
            assert_eq!(messages.len(), 1, "{text}: {messages:?}");
            assert!(messages[0].starts_with(start), "{text}: {}", messages[0]);
        }
    }
}
