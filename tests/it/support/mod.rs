//! What the tests share: registries, bases, temporary stores.
