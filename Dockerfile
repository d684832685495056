# The default profile: CPU, one volume, no other service.
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home longleaf && install -d -o longleaf /data
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
USER longleaf
ENV LONGLEAF_HOME=/data \
    LONGLEAF_SERVER__HOST=0.0.0.0 \
    LONGLEAF_SERVER__PORT=8765 \
    LONGLEAF_SERVER__ALLOW_REMOTE=true \
    HF_HUB_DISABLE_TELEMETRY=1
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=2)"]
ENTRYPOINT ["longleaf"]
CMD ["serve"]
