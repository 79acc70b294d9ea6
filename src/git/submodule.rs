//! `.gitmodules`: where submodules come from. Spec: gitmodules(5), and git-config(1) for the form.

/// The address of each submodule, by its path.
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().map(str::trim).chain(["["]) {
        if line.starts_with('[') {
            out.extend(Option::zip(path.take(), url.take()));
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            match key.trim().to_lowercase().as_str() {
                "path" => path = Some(value.trim_end_matches('/').to_string()),
                "url" => url = Some(value.to_string()),
                _ => {}
            }
        }
    }
    out
}

/// `url` as the repository at `parent` means it: `./x` and `../x` are relative to that repository.
pub fn resolve(parent: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_string();
    }
    // `user@host:path` is ssh.
    let whole = match parent.split_once(':') {
        Some((host, path)) if !parent.contains("://") => format!("ssh://{host}/{}", path.trim_start_matches('/')),
        _ => parent.to_string(),
    };
    let (scheme, rest) = whole.split_once("://").unwrap_or(("", &whole));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let text = "# x\n[submodule \"a\"]\n\tpath = lib/a/\n\turl = ../a.git\n[submodule \"b\"]\nURL=\"https://h/b\"\n path=b\n[other]\n";
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(parse(text), [pair("lib/a", "../a.git"), pair("b", "https://h/b")]);
        assert_eq!(parse("[submodule \"a\"]\npath = a\n"), []);
    }

    #[test]
    fn relative_addresses() {
        for (url, expected) in [
            ("../a.git", "https://u:p@h:1/x/a.git"),
            ("./a", "https://u:p@h:1/x/y.git/a"),
            ("../../../../a", "https://u:p@h:1/a"),
            ("https://o/b", "https://o/b"),
        ] {
            assert_eq!(resolve("https://u:p@h:1/x/y.git", url), expected, "{url}");
        }
    }
}
