# The exporter: built in one stage, run in another that has neither compiler nor package index.
FROM python:3.13.7-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/modelhost && /opt/modelhost/bin/pip install --no-cache-dir '.[uvloop]'

FROM python:3.13.7-slim
LABEL org.opencontainers.image.title="modelhost-exporter" \
      org.opencontainers.image.description="Prometheus exporter for machines that serve models" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/modelhost /opt/modelhost
ENV PATH=/opt/modelhost/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8585
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('MODELHOST_PORT', '8585') + '/-/healthy', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["modelhost-exporter"]
CMD ["--web.listen-address=:8585"]
