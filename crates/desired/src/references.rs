//! `${env:NAME}` and `${file:PATH}` in texts of the file. A doubled dollar sign stands for itself.

use std::{fs::File, io::Read, path::Path};

/// The largest file that a reference may name, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Where references are looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'l> {
    /// The folder that relative paths start from.
    pub(crate) folder: &'l Path,
    /// Reads a variable of the environment.
    pub(crate) variable: fn(&str) -> Option<String>,
}

/// Puts what references name in their place. What they name is taken as it is, references in it included.
pub(crate) fn resolve(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((dollars, start, kind)) = next(rest) {
        resolved.push_str(&rest[..start]);
        let after = &rest[start + dollars..];
        if dollars > 1 {
            resolved.push_str(&"$".repeat(dollars - 1));
            resolved.push('{');
            rest = &after[1..];
            continue;
        }
        let inner = &after[1 + kind.prefix().len()..];
        let Some((name, behind)) = inner.split_once('}') else {
            return Err(format!("${{{}… has no closing brace", kind.prefix()));
        };
        resolved.push_str(&kind.look_up(name, lookup)?);
        rest = behind;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// Doubles the dollar signs of what would be taken for a reference.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((dollars, start, _)) = next(rest) {
        escaped.push_str(&rest[..start + dollars]);
        escaped.push_str("${");
        rest = &rest[start + dollars + 1..];
    }
    escaped.push_str(rest);
    escaped
}

#[derive(Clone, Copy)]
enum Kind {
    Env,
    File,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Env => "env:",
            Self::File => "file:",
        }
    }

    fn look_up(self, name: &str, lookup: Lookup<'_>) -> Result<String, String> {
        match self {
            Self::Env => (lookup.variable)(name)
                .ok_or_else(|| format!("the environment has no text {name:?}")),
            Self::File => {
                let path = lookup.folder.join(name);
                let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let mut text = String::new();
                let file = File::open(&path).map_err(|error| said(&error))?;
                file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| said(&error))?;
                if text.len() as u64 > FILE_MAX {
                    return Err(said(&format_args!("has more than {FILE_MAX} bytes")));
                }
                Ok(text)
            }
        }
    }
}

/// The next dollar signs before `{env:` or `{file:`: how many, and where they start.
fn next(text: &str) -> Option<(usize, usize, Kind)> {
    let mut from = 0;
    while let Some(found) = text[from..].find("${") {
        let dollar = from + found;
        let inside = &text[dollar + 2..];
        let kind =
            [Kind::Env, Kind::File].into_iter().find(|kind| inside.starts_with(kind.prefix()));
        if let Some(kind) = kind {
            let before = text[..dollar].bytes().rev().take_while(|byte| *byte == b'$').count();
            return Some((before + 1, dollar - before, kind));
        }
        from = dollar + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup<'static> {
        Lookup {
            folder: Path::new("/nonexistent"),
            variable: |name| (name == "HOST").then(|| "10.0.0.5".to_owned()),
        }
    }

    #[test]
    fn references_are_replaced_and_doubled_signs_are_not() {
        let resolved = |text| resolve(text, lookup());
        assert_eq!(resolved("http://${env:HOST}:80/"), Ok("http://10.0.0.5:80/".to_owned()));
        assert_eq!(resolved("$${env:HOST} $$${file:x}"), Ok("${env:HOST} $${file:x}".to_owned()));
        assert_eq!(resolved("${other} $ {} $$"), Ok("${other} $ {} $$".to_owned()));
        assert_eq!(resolved("${env:NONE}"), Err("the environment has no text \"NONE\"".to_owned()));
        assert_eq!(resolved("${env:HOST"), Err("${env:… has no closing brace".to_owned()));
        assert!(resolved("${file:x}").unwrap_err().starts_with("/nonexistent/x: No such file"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[${}a:envfil]{0,40}|(\\$\\{(env|file):|\\$){0,8}") {
            proptest::prop_assert_eq!(resolve(&escape(&text), lookup()), Ok(text));
        }
    }
}
