//! Everything that a person sees: progress, diagnostics, exit codes.
