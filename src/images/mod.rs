//! Images as wholes: pull, push, tag, save, list, remove.
