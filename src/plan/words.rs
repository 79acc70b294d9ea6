//! Words of the Dockerfile and what they expand to.

use super::env::Env;
use crate::dockerfile::expand::{self, ExpandError, Expanded, Expander};

impl expand::Env for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.value(name)
    }
}

/// Expands words with the escape character of the file.
pub(super) struct Words(Expander);

impl Words {
    /// For a file whose escape character is `escape`.
    pub(super) fn new(escape: char) -> Self {
        Words(Expander::new(escape))
    }

    /// One word: variables, then quotes removed.
    pub(super) fn expand(&self, word: &str, env: &Env) -> Result<Expanded, ExpandError> {
        self.0.expand_word(word, env)
    }

    /// A word that may become several.
    pub(super) fn split(&self, word: &str, env: &Env) -> Result<Vec<String>, ExpandError> {
        self.0.expand_words(word, env)
    }

    /// A heredoc's body: quotes stay, and `\` escapes whatever the file's escape character is.
    pub(super) fn body(&self, body: &str, env: &Env) -> Result<Expanded, ExpandError> {
        Expander { skip_process_quotes: true, ..Expander::new('\\') }.expand_word(body, env)
    }

    /// An instruction for people, as it stands where it cannot be expanded. A shell's own quotes and variables stay.
    pub(super) fn display(&self, text: &str, env: &Env, shell: bool) -> String {
        let expander = Expander { raw_quotes: shell, skip_unset_env: shell, ..self.0.clone() };
        expander.expand_word(text, env).map_or_else(|_| text.to_string(), |expanded| expanded.word)
    }
}
