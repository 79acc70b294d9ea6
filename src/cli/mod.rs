//! The command line: arguments and environment in, operations called.
