//! `--isolation` and `$DOCKLESS_ISOLATION`.

use super::environment::Environment;
use super::{Outcome, usage};
use crate::sandbox::Isolation;

/// The variable that stands for the flag where that is not given.
const VARIABLE: &str = "DOCKLESS_ISOLATION";

/// What the flag says, else the variable, else the best that works.
pub fn isolation(flag: Option<&str>, environment: &Environment) -> Outcome<Isolation> {
    let (name, text) = match flag {
        Some(text) => ("--isolation", text),
        None => (VARIABLE, environment.text(VARIABLE).unwrap_or_default()),
    };
    match text {
        // `default` is Docker's word for its own choice.
        "auto" | "default" | "" => Ok(Isolation::Auto),
        "namespaces" => Ok(Isolation::Namespaces),
        "chroot" => Ok(Isolation::Chroot),
        "emulated" => Ok(Isolation::Emulated),
        other => Err(usage(format!("{name}={other} is unknown: expected auto, namespaces, chroot or emulated"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_flag_wins() {
        let of = |flag, variable: &str| {
            isolation(flag, &Environment::of(&[(VARIABLE, variable)], Path::new("/"))).map_err(|error| error.message)
        };
        assert_eq!(of(None, ""), Ok(Isolation::Auto));
        assert_eq!(of(None, "chroot"), Ok(Isolation::Chroot));
        assert_eq!(of(Some("namespaces"), "chroot"), Ok(Isolation::Namespaces));
        assert_eq!(of(Some("default"), "chroot"), Ok(Isolation::Auto));
        assert!(of(None, "vm").unwrap_err().starts_with("DOCKLESS_ISOLATION=vm"));
        assert_eq!(of(Some("emulated"), ""), Ok(Isolation::Emulated));
    }
}
