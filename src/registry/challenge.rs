//! `WWW-Authenticate`: what a registry wants to see. Spec: RFC 9110 section 11.6.1; distribution, docs/spec/auth/token.md.

use super::scopes::Scopes;

/// A demand for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// What the token server calls the registry.
        service: Option<String>,
        /// What the refused request needs.
        scopes: Scopes,
    },
}

impl Challenge {
    /// The best of those in the headers: a token before a password; `None` if none is known to us.
    pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<_> = headers.into_iter().flat_map(challenges).collect();
        let bearer =
            all.iter().filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).find_map(|(_, parameters)| {
                let get = |name: &str| {
                    parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
                };
                let scopes = Scopes::parse(&get("scope").unwrap_or_default());
                Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scopes })
            });
        let basic = || all.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).then_some(Challenge::Basic);
        bearer.or_else(basic)
    }
}

type Parameters = Vec<(String, String)>;

/// Schemes with their parameters: `Scheme a=b, c="d", Other e=f`.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut out: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        rest = match after.strip_prefix('=') {
            Some(value) => {
                let (value, left) = parameter(value.trim_start());
                if let Some((_, parameters)) = out.last_mut() {
                    parameters.push((word.to_string(), value));
                }
                left
            }
            None => {
                out.push((word.to_string(), Vec::new()));
                after
            }
        };
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    out
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: &str) -> Option<Challenge> {
        let service = service.map(String::from);
        Some(Challenge::Bearer { realm: realm.into(), service, scopes: Scopes::parse(scope) })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        for (headers, expected) in [
            (vec![r#"Basic realm="x""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#],
                bearer("https://a/t", Some("s"), "repository:a:pull,push"),
            ),
            (vec![r#"Bearer realm="https://a/t", service=s , error="x""#], bearer("https://a/t", Some("s"), "")),
            (vec![r#"Basic realm="a, Bearer realm=b""#], Some(Challenge::Basic)),
            (vec![r#"Basic realm="a", Bearer realm="b""#], bearer("b", None, "")),
            (vec![r#"Basic realm="a""#, r#"BEARER Realm="b\"c""#], bearer("b\"c", None, "")),
            (vec!["Negotiate"], None),
            (vec![r#"Bearer service="s""#], None),
            (vec!["", "=", "a=\"", ",,,"], None),
            (vec![], None),
        ] {
            assert_eq!(Challenge::parse(headers.clone()), expected, "{headers:?}");
        }
    }
}
