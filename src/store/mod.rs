//! The content store: blobs, names, unpacked layers and cache records under the state directory.
