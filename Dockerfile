# The exporter, built in one stage and run in another, whose environment has no pip. The base image is pinned by the digest
# of its multi-platform index in docker-library/repo-info (repos/python/remote/3.13.14-slim-trixie.md); every package is
# checked by its hash.
FROM python:3.13.14-slim@sha256:9662417aace5ae7b8e2609cce472b72a8958e134ba372808abe9cc1a0c0125e6 AS build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/build && \
    /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/node.txt
RUN python -m venv --without-pip /opt/modelhost && \
    /opt/build/bin/pip --python /opt/modelhost/bin/python install --no-cache-dir --require-hashes \
        -r requirements/runtime.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /opt/wheel . && \
    /opt/build/bin/pip --python /opt/modelhost/bin/python install --no-cache-dir --no-index --no-deps /opt/wheel/*.whl

FROM python:3.13.14-slim@sha256:9662417aace5ae7b8e2609cce472b72a8958e134ba372808abe9cc1a0c0125e6
LABEL org.opencontainers.image.title="modelhost-exporter" \
      org.opencontainers.image.description="Prometheus exporter for machines that serve models" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/modelhost /opt/modelhost
ENV PATH=/opt/modelhost/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MODELHOST_LISTEN_ADDRESS=:8585
USER 65532:65532
EXPOSE 8585
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["modelhost-exporter", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["modelhost-exporter"]
