# A small image without a shell, whose user is nobody. docs/operate.md says how to run it.

FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && mkdir /data

# glibc, its certificates and time zones, and a user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/jwksd /usr/local/bin/jwksd
# A volume takes over the owner of the directory that it is mounted on.
COPY --from=build --chown=65532:65532 --chmod=0700 /data /data
# Out of the working directory, so that the master key must be given, and does not come to lie beside the store.
ENV DATABASE_URL=/data/jwksd.db HOST=0.0.0.0
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/jwksd"]
CMD ["serve"]
