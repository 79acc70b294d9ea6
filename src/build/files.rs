//! COPY, ADD and WORKDIR: written straight into a layer, with no command and no mount.
