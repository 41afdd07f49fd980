# The relay in a container: docker build -t telemetry-relay:0.2.0 .
# Mount the settings at /etc/relay/relay.yaml (config/kubernetes shows how), and a volume at /var/lib/relay
# where they have storage or api.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
# A compiler for the hot path; it stays behind in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY requirements requirements
RUN python -m venv /opt/build && python -m venv --without-pip /opt/relay \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/relay install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r requirements/run.txt
COPY pyproject.toml setup.py README.md LICENSE MANIFEST.in ./
COPY build_support build_support
COPY relay relay
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --disable-pip-version-check \
        --wheel-dir /opt/build/wheels . \
    && /opt/build/bin/pip --python /opt/relay install --no-deps --no-index --disable-pip-version-check \
        /opt/build/wheels/*.whl \
    && /opt/relay/bin/relay version

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="telemetry-relay" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes can tell that it is not root without reading /etc/passwd.
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin relay \
    && install -d -m 0700 -o relay -g relay /var/lib/relay
COPY --from=build /opt/relay /opt/relay
ENV PATH=/opt/relay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/relay
USER 65532:65532
WORKDIR /etc/relay
# Remote write, admin, and the relay's own API where the settings have one.
EXPOSE 9490 9491 9492
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9491/healthz', timeout=2)"]
ENTRYPOINT ["relay"]
# A container's loopback is of no use to its neighbours: listen on every interface. Anybody who reaches
# the port may write until ingest.authentication or ingest.tls says otherwise, and anybody may read
# the admin port: keep both inside the pod or its network policy.
CMD ["run", "--config", "/etc/relay/relay.yaml", "--listen", "0.0.0.0:9490", "--admin-listen", "0.0.0.0:9491", "--log-format", "json"]
