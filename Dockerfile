# The command alone, in an image without an operating system:
#
#   docker build -t perdure --build-arg VERSION=0.1.0 .
#   docker run --rm -v "$PWD:/work" -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY perdure copy hour.csv s3://bikes/raw/
#
# It runs as user 65532, who cannot write to your directory: a download needs your own user, and a state directory of that
# user. A volume keeps the circuit breakers, and what uploads resume from: -v perdure:/state.
#
#   docker run --rm --user "$(id -u):$(id -g)" -e PERDURE_STATE=/tmp/perdure -v "$PWD:/work" perdure copy https://example.org/a.json .
FROM golang:1.26-bookworm AS build
ARG VERSION=0.1.0
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 GOOS="$TARGETOS" GOARCH="$TARGETARCH" go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.release=$VERSION" -o /out/perdure ./cmd/perdure \
    && mkdir -p /out/state /out/tmp && chmod 1777 /out/tmp

FROM scratch
LABEL org.opencontainers.image.title="perdure" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/seed-0f2c7998/perdure"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build --chown=65532:65532 /out/state /state
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build /out/perdure /usr/bin/perdure
ENV PERDURE_STATE=/state HOME=/tmp
USER 65532:65532
WORKDIR /work
ENTRYPOINT ["/usr/bin/perdure"]
CMD ["--help"]
