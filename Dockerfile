# The image for CI jobs: dockless under its own name and those of docker, kaniko, BuildKit's client and buildah, with a shell
# and certificates. It needs no privilege, and works as root, as any user with group 0, with HOME unset, and on a read-only
# root with a writable /tmp.
#
#   binary=$(scripts/build)
#   dockless build --build-context binary="$(dirname "$binary")" -t dockless .
#   dockless build --build-context binary="$(dirname "$binary")" --target git -t dockless:git .
ARG BUSYBOX=docker.io/library/busybox:1.37-musl
ARG DEBIAN=docker.io/library/debian:bookworm-slim

FROM ${DEBIAN} AS certificates
RUN [ -s /etc/ssl/certs/ca-certificates.crt ] \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates; }

# The links, for both variants.
FROM ${BUSYBOX} AS links
RUN mkdir -p /tree/usr/local/bin /tree/kaniko/.docker /tree/kaniko/ssl /tree/workspace /tree/builds \
    && for name in docker docker-compose buildah buildctl buildctl-daemonless.sh; do \
         ln -s dockless "/tree/usr/local/bin/$name"; \
       done \
    && ln -s ../usr/local/bin/dockless /tree/kaniko/executor \
    && ln -s /etc/ssl/certs /tree/kaniko/ssl/certs \
    && chmod -R g=u /tree/kaniko /tree/workspace /tree/builds

# With git, on Debian.
FROM ${DEBIAN} AS git
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git openssh-client busybox-static \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /busybox && busybox --install -s /busybox
COPY --from=links /tree/ /
COPY --from=binary --chmod=755 dockless /usr/local/bin/dockless
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/kaniko:/busybox
CMD ["sh"]

# The default: busybox alone.
FROM ${BUSYBOX}
RUN mkdir -p /busybox /tmp && chmod 1777 /tmp \
    && for name in $(/bin/busybox --list); do ln -sf /bin/busybox "/busybox/$name"; done \
    && chmod g=u /root
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=links /tree/ /
COPY --from=binary --chmod=755 dockless /usr/local/bin/dockless
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/kaniko:/busybox
CMD ["sh"]
