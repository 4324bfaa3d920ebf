# One static program and nothing else: no shell, no users, no certificates, no libraries.
# scripts/image builds the program, puts it into target/image, and then builds these images:
#
#   plimsoll        the balancer; with another command all else that the program does
#   plimsoll-demo   `plimsoll demo-server`, something to balance (--target demo)

FROM scratch AS demo
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="plimsoll" \
      org.opencontainers.image.description="Load balancing for containers, in one binary" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# /plimsoll, and /run for the admin socket, which any user may write to.
COPY target/image/ /
# Whichever user it runs as, the admin socket is /run/plimsoll.sock.
ENV XDG_RUNTIME_DIR=/run
EXPOSE 80
ENTRYPOINT ["/plimsoll"]
CMD ["demo-server"]

FROM demo
HEALTHCHECK --interval=10s --timeout=6s CMD ["/plimsoll", "healthcheck"]
# It starts as root to learn the group of the engine's socket, and then is root no more.
CMD ["run", "--user", "65532"]
