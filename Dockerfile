# A small image without a shell, with an unprivileged user. docs/operate.md explains how to run it.

FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && mkdir /data

# glibc, certificates, time zones, and the user ID 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/jwksd /usr/local/bin/jwksd
# A volume inherits the owner of the directory it is mounted on.
COPY --from=build --chown=65532:65532 --chmod=0700 /data /data
# Outside the working directory, so the master key must be provided and is not stored next to the database.
ENV DATABASE_URL=/data/jwksd.db HOST=0.0.0.0
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/jwksd"]
CMD ["serve"]
