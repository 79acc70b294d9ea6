//! Starting an image.
