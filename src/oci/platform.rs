//! Platforms: `os/architecture[/variant]`, normalised as containerd does it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A platform that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a platform (expected os/architecture[/variant], such as linux/amd64)")]
pub struct PlatformError(pub String);

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Go's GOOS, such as `linux`.
    pub os: String,
    /// Go's GOARCH, such as `amd64`.
    pub architecture: String,
    /// CPU variant, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `os.version`, used by Windows images only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    /// The platform this binary runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            os_version: None,
        }
    }

    /// Whether an image made for `image` runs where `self` is asked for: same system, architecture and variant, an
    /// absent variant standing for the architecture's default one.
    pub fn accepts(&self, image: &Platform) -> bool {
        let (want, have) = (self.clone().normalised(), image.clone().normalised());
        want.os == have.os && want.architecture == have.architecture && want.default_variant() == have.default_variant()
    }

    fn default_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            ("amd64", None) => Some("v1"),
            (_, variant) => variant,
        }
    }

    /// Go's names for architectures and variants; the default variant is left out, but for arm's `v7`.
    pub fn normalised(mut self) -> Self {
        self.os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".into(),
            other => other.into(),
        };
        let variant = self.variant.take().map(|v| v.to_lowercase()).unwrap_or_default();
        let (architecture, variant) = match (self.architecture.to_lowercase().as_str(), variant.as_str()) {
            ("i386", _) => ("386".to_string(), String::new()),
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64".to_string(), String::new()),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64".to_string(), v.to_string()),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64".to_string(), String::new()),
            ("aarch64" | "arm64", v) => ("arm64".to_string(), v.to_string()),
            ("armhf", _) => ("arm".to_string(), "v7".to_string()),
            ("armel", _) => ("arm".to_string(), "v6".to_string()),
            ("arm", "" | "7" | "v7") => ("arm".to_string(), "v7".to_string()),
            ("arm", v @ ("5" | "6" | "8")) => ("arm".to_string(), format!("v{v}")),
            (a, v) => (a.to_string(), v.to_string()),
        };
        self.architecture = architecture;
        self.variant = Some(variant).filter(|v| !v.is_empty());
        self
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let valid =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !parts.iter().all(valid) {
            return Err(PlatformError(text.to_string()));
        }
        let host = Platform::host();
        let own = |s: &str| s.to_string();
        let (os, architecture, variant) = match parts[..] {
            ["linux" | "windows" | "darwin" | "freebsd"] => (own(parts[0]), host.architecture, host.variant),
            [architecture] => (host.os, own(architecture), None),
            [os, architecture] => (own(os), own(architecture), None),
            [os, architecture, variant] => (own(os), own(architecture), Some(own(variant))),
            _ => return Err(PlatformError(text.to_string())),
        };
        Ok(Platform { os, architecture, variant, os_version: None }.normalised())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        assert!("linux//x".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
    }

    #[test]
    fn accepts_the_default_variant() {
        let want: Platform = "linux/arm64".parse().unwrap();
        assert!(want.accepts(&Platform { variant: Some("v8".into()), ..want.clone() }));
        assert!(!want.accepts(&"linux/amd64".parse().unwrap()));
        assert!(!"linux/arm/v7".parse::<Platform>().unwrap().accepts(&"linux/arm/v6".parse().unwrap()));
    }
}
