//! Lint rules, with BuildKit's names and words: the catalogue, the options that select among them, and how each words
//! what it found. [`super::check`] finds what the text alone shows; the plan finds the rest.

use super::span::Span;
use super::suggest;
use super::value::boolean;

/// A warning; never stops a build unless `# check=error=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// BuildKit's rule name, such as `StageNameCasing`.
    pub rule: &'static str,
    /// What the rule is about, one sentence.
    pub description: &'static str,
    /// What is wrong here.
    pub detail: String,
    /// Where.
    pub span: Span,
}

impl Warning {
    /// A warning of `rule`.
    pub fn new(rule: &Rule, detail: String, span: Span) -> Self {
        Warning { rule: rule.name, description: rule.description, detail, span }
    }
}

/// A lint rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it is about, one sentence.
    pub description: &'static str,
    /// Off unless `experimental=` names it.
    pub experimental: bool,
    /// Concerns instructions of stages that are built, not the file as such.
    pub built_stages_only: bool,
}

impl Rule {
    /// BuildKit's page about it.
    pub fn url(&self) -> String {
        let mut kebab = String::with_capacity(self.name.len() + 6);
        let bytes = self.name.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let after_small = at > 0 && bytes[at - 1].is_ascii_lowercase();
            let ends_acronym = at > 0 && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            if byte.is_ascii_uppercase() && (after_small || ends_acronym) {
                kebab.push('-');
            }
            kebab.push(byte.to_ascii_lowercase().into());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{kebab}/")
    }
}

/// Everything that a rule is, in one line each.
macro_rules! rules {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $scope:ident, $experimental:literal, $description:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $id: Rule = Rule {
                name: $name,
                description: $description,
                experimental: $experimental,
                built_stages_only: rules!($scope),
            };
        )*
        /// Every rule, in BuildKit's order.
        pub const RULES: &[&Rule] = &[$(&$id),*];
    };
    (file) => { false };
    (stage) => { true };
}

rules! {
    /// `FROM x AS Name`
    STAGE_NAME_CASING = "StageNameCasing", file, false, "Stage names should be lowercase";
    /// `FROM x as name`
    FROM_AS_CASING = "FromAsCasing", file, false, "The 'as' keyword should match the case of the 'from' keyword";
    /// An empty line inside an instruction.
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation", file, false,
        "Empty continuation lines will become errors in a future release";
    /// `Run`, or `run` among `COPY` and `ENV`.
    CONSISTENT_INSTRUCTION_CASING = "ConsistentInstructionCasing", file, false,
        "All commands within the Dockerfile should use the same casing (either upper or lower)";
    /// Two stages of one name.
    DUPLICATE_STAGE_NAME = "DuplicateStageName", file, false, "Stage names should be unique";
    /// `AS scratch`, `AS context`
    RESERVED_STAGE_NAME = "ReservedStageName", file, false, "Reserved words should not be used as stage names";
    /// CMD and ENTRYPOINT in shell form.
    JSON_ARGS_RECOMMENDED = "JSONArgsRecommended", stage, false,
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    /// MAINTAINER.
    MAINTAINER_DEPRECATED = "MaintainerDeprecated", file, false,
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    /// A variable in FROM that no global ARG declares.
    UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom", file, false, "FROM command must use declared ARGs";
    /// A relative WORKDIR that no absolute one comes before.
    WORKDIR_RELATIVE_PATH = "WorkdirRelativePath", stage, false,
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    /// A variable that nothing sets.
    UNDEFINED_VAR = "UndefinedVar", stage, false, "Variables should be defined before their use";
    /// CMD, ENTRYPOINT or HEALTHCHECK twice in a stage.
    MULTIPLE_INSTRUCTIONS_DISALLOWED = "MultipleInstructionsDisallowed", stage, false,
        "Multiple instructions of the same type should not be used in the same stage";
    /// `ENV name value`
    LEGACY_KEY_VALUE_FORMAT = "LegacyKeyValueFormat", stage, false,
        "Legacy key/value format with whitespace separator should not be used";
    /// A base image for another platform than the stage's.
    INVALID_BASE_IMAGE_PLATFORM = "InvalidBaseImagePlatform", stage, false,
        "Base image platform does not match expected target platform";
    /// `FROM --platform=$TARGETPLATFORM`
    REDUNDANT_TARGET_PLATFORM = "RedundantTargetPlatform", file, false,
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    /// A name such as `DB_PASSWORD` in ARG or ENV.
    SECRETS_USED_IN_ARG_OR_ENV = "SecretsUsedInArgOrEnv", stage, false,
        "Sensitive data should not be used in the ARG or ENV commands";
    /// A FROM that needs a build argument to name an image.
    INVALID_DEFAULT_ARG_IN_FROM = "InvalidDefaultArgInFrom", file, false,
        "Default value for global ARG results in an empty or invalid base image name";
    /// `FROM --platform=linux/amd64`
    FROM_PLATFORM_FLAG_CONST_DISALLOWED = "FromPlatformFlagConstDisallowed", file, false,
        "FROM --platform flag should not use a constant value";
    /// COPY of what the ignore file leaves out.
    COPY_IGNORED_FILE = "CopyIgnoredFile", stage, false, "Attempting to Copy file that is excluded by .dockerignore";
    /// A comment above FROM or ARG that describes neither.
    INVALID_DEFINITION_DESCRIPTION = "InvalidDefinitionDescription", file, true,
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    /// `EXPOSE 80/TCP`
    EXPOSE_PROTO_CASING = "ExposeProtoCasing", stage, false, "Protocol in EXPOSE instruction should be lowercase";
    /// `EXPOSE 127.0.0.1:80:80`
    EXPOSE_INVALID_FORMAT = "ExposeInvalidFormat", stage, false,
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

/// The rule of that name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.name == name)
}

/// How each rule words what it found.
pub mod detail {
    pub(super) fn did_you_mean(near: Option<String>) -> String {
        near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
    }

    /// `StageNameCasing`
    pub fn stage_name_casing(name: &str) -> String {
        format!("Stage name '{name}' should be lowercase")
    }

    /// `FromAsCasing`
    pub fn from_as_casing(from: &str, keyword: &str) -> String {
        format!("'{keyword}' and '{from}' keywords' casing do not match")
    }

    /// `NoEmptyContinuation`
    pub fn no_empty_continuation() -> String {
        "Empty continuation line".to_string()
    }

    /// `ConsistentInstructionCasing`; `casing` is `lowercase` or `uppercase`.
    pub fn consistent_instruction_casing(instruction: &str, casing: &str) -> String {
        format!("Command '{instruction}' should match the case of the command majority ({casing})")
    }

    /// `DuplicateStageName`
    pub fn duplicate_stage_name(name: &str) -> String {
        format!("Duplicate stage name {name:?}, stage names should be unique")
    }

    /// `ReservedStageName`
    pub fn reserved_stage_name(name: &str) -> String {
        format!("Stage name should not use the same name as reserved stage {name:?}")
    }

    /// `JSONArgsRecommended`
    pub fn json_args_recommended(instruction: &str) -> String {
        format!("JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals")
    }

    /// `MaintainerDeprecated`
    pub fn maintainer_deprecated() -> String {
        "Maintainer instruction is deprecated in favor of using label".to_string()
    }

    /// `UndefinedArgInFrom`
    pub fn undefined_arg_in_from(name: &str, near: Option<&str>) -> String {
        format!("FROM argument '{name}' is not declared{}", did_you_mean(near.map(str::to_string)))
    }

    /// `WorkdirRelativePath`
    pub fn workdir_relative_path(path: &str) -> String {
        format!("Relative workdir {path:?} can have unexpected results if the base image changes")
    }

    /// `UndefinedVar`
    pub fn undefined_var(name: &str, near: Option<&str>) -> String {
        format!("Usage of undefined variable '${name}'{}", did_you_mean(near.map(|near| format!("${near}"))))
    }

    /// `MultipleInstructionsDisallowed`
    pub fn multiple_instructions_disallowed(instruction: &str) -> String {
        format!(
            "Multiple {instruction} instructions should not be used in the same stage because only the last one will be used"
        )
    }

    /// `LegacyKeyValueFormat`
    pub fn legacy_key_value_format(instruction: &str) -> String {
        format!("\"{instruction} key=value\" should be used instead of legacy \"{instruction} key value\" format")
    }

    /// `InvalidBaseImagePlatform`
    pub fn invalid_base_image_platform(image: &str, expected: &str, actual: &str) -> String {
        format!("Base image {image} was pulled with platform {actual:?}, expected {expected:?} for current build")
    }

    /// `RedundantTargetPlatform`; `variable` as written.
    pub fn redundant_target_platform(variable: &str) -> String {
        format!("Setting platform to predefined {variable} in FROM is redundant as this is the default behavior")
    }

    /// `SecretsUsedInArgOrEnv`; `instruction` is ARG or ENV.
    pub fn secrets_used_in_arg_or_env(instruction: &str, key: &str) -> String {
        format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {key:?})")
    }

    /// `InvalidDefaultArgInFrom`; `base` as written.
    pub fn invalid_default_arg_in_from(base: &str) -> String {
        format!("Default value for ARG {base} results in empty or invalid base image name")
    }

    /// `FromPlatformFlagConstDisallowed`
    pub fn from_platform_flag_const_disallowed(platform: &str) -> String {
        format!("FROM --platform flag should not use constant value {platform:?}")
    }

    /// `CopyIgnoredFile`; `verb` is `Copy` or `Add`.
    pub fn copy_ignored_file(verb: &str, file: &str) -> String {
        format!("Attempting to {verb} file {file:?} that is excluded by .dockerignore")
    }

    /// `InvalidDefinitionDescription`; `name` is what the comment should describe.
    pub fn invalid_definition_description(instruction: &str, name: &str) -> String {
        format!("Comment for {instruction} should follow the format: `# {name} <description>`")
    }

    /// `ExposeProtoCasing`
    pub fn expose_proto_casing(port: &str) -> String {
        format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase")
    }

    /// `ExposeInvalidFormat`
    pub fn expose_invalid_format(port: &str) -> String {
        format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'")
    }
}

/// Whether a variable of that name probably holds a secret: one of its words says so and none says that it is public, a
/// version or a file.
pub fn is_secret_key(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |list: &[&str]| lower.split('_').any(|word| list.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

/// Some rules or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that are named.
    Some(Vec<String>),
    /// All.
    All,
}

impl Default for Selection {
    fn default() -> Self {
        Selection::Some(Vec::new())
    }
}

impl Selection {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Selection::All,
            list => Selection::Some(list.split(',').map(|name| name.trim().to_string()).collect()),
        }
    }

    /// Whether `name` is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Selection::All => true,
            Selection::Some(names) => names.iter().any(|known| known == name),
        }
    }
}

/// Which warnings are wanted: `# check=`, the build argument `BUILDKIT_DOCKERFILE_CHECK`, or a `# check=skip=…` comment
/// directly above an instruction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `skip=`
    pub skip: Selection,
    /// `experimental=`
    pub experimental: Selection,
    /// `error=true`: a warning fails the build.
    pub error: bool,
}

/// Options that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Neither `skip=`, `experimental=` nor `error=`.
    #[error("invalid check option {0:?}: expected skip=, experimental= or error={near}", near = near_option(.0))]
    Unknown(String),
    /// `error=` of something else than a truth value.
    #[error("failed to parse check option {0:?}: expected true or false")]
    NotBoolean(String),
}

fn near_option(part: &str) -> String {
    let key = part.split_once('=').map_or(part, |(key, _)| key).trim();
    detail::did_you_mean(suggest::nearest(key, ["skip", "experimental", "error"]).map(str::to_string))
}

impl Options {
    /// Reads `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// [`OptionsError`] with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut options = Options::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.trim().splitn(3, ';') {
            let (key, value) = part.split_once('=').ok_or_else(|| OptionsError::Unknown(part.to_string()))?;
            match key.trim() {
                "skip" => options.skip = Selection::parse(value),
                "experimental" => options.experimental = Selection::parse(value),
                "error" => {
                    options.error = boolean(value.trim()).ok_or_else(|| OptionsError::NotBoolean(part.to_string()))?;
                }
                other => return Err(OptionsError::Unknown(other.to_string())),
            }
        }
        Ok(options)
    }

    /// What is said of names in `skip=` and `experimental=` that are no rule's; BuildKit passes over them in silence.
    pub fn unknown_rules(&self) -> Vec<String> {
        let named = [&self.skip, &self.experimental].into_iter().flat_map(|selection| match selection {
            Selection::Some(names) => names.as_slice(),
            Selection::All => &[],
        });
        let unknown = named.filter(|name| !name.is_empty() && rule(name).is_none());
        let words = |name: &String| {
            let near = suggest::nearest_ignoring_case(name, RULES.iter().map(|rule| rule.name));
            let near = near.and_then(|near| RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(&near)));
            let near = near.or(RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(name)));
            format!("there is no check named {name}{}", detail::did_you_mean(near.map(|rule| rule.name.to_string())))
        };
        unknown.map(words).collect()
    }

    /// Whether warnings of `name` are wanted.
    pub fn wants(&self, name: &str) -> bool {
        if rule(name).is_some_and(|rule| rule.experimental) && self.experimental.has(name) {
            return true;
        }
        let on = rule(name).is_none_or(|rule| !rule.experimental);
        on && !self.skip.has(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_22_rules() {
        assert_eq!(RULES.len(), 22);
        assert_eq!(rule("UndefinedVar"), Some(&UNDEFINED_VAR));
        assert_eq!(rule("undefinedvar"), None);
    }

    #[test]
    fn a_rule_has_a_page() {
        let page = |rule: &Rule| rule.url().split('/').rev().nth(1).map(str::to_string);
        assert_eq!(page(&JSON_ARGS_RECOMMENDED).as_deref(), Some("json-args-recommended"));
        assert_eq!(page(&FROM_AS_CASING).as_deref(), Some("from-as-casing"));
    }

    #[test]
    fn reads_options() {
        let options = Options::parse("skip=JSONArgsRecommended, UndefinedVar;error=true").expect("valid");
        assert!(options.error);
        assert!(!options.wants("UndefinedVar"));
        assert!(options.wants("StageNameCasing"));
        assert!(!options.wants("InvalidDefinitionDescription"), "experimental");
        let options = Options::parse("skip=all;experimental=InvalidDefinitionDescription").expect("valid");
        assert!(!options.wants("StageNameCasing"));
        assert!(options.wants("InvalidDefinitionDescription"));
        assert_eq!(Options::parse(" "), Ok(Options::default()));
        let options = Options::parse("skip=UndefinedVars,undefinedvar,Nonsense,StageNameCasing").expect("valid");
        assert_eq!(
            options.unknown_rules(),
            [
                "there is no check named UndefinedVars (did you mean UndefinedVar?)",
                "there is no check named undefinedvar (did you mean UndefinedVar?)",
                "there is no check named Nonsense"
            ]
        );
        assert!(Options::parse("skip").is_err());
        assert!(Options::parse("skp=all").is_err());
        assert!(Options::parse("error=maybe").is_err());
    }
}
