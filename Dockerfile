# The default profile: CPU, one volume, no other service.
#
# torch decides the size. On x86-64 Linux the build that pip's usual index offers brings several
# gigabytes of CUDA packages along. The CPU build comes from any index that carries it:
#   docker build --build-arg PIP_EXTRA_ARGS="--extra-index-url URL" .
# There is no default for it, so that the image trusts no index that you did not name.
FROM python:3.12-slim-bookworm AS build
ARG PIP_EXTRA_ARGS=""
WORKDIR /src
# src/longleaf/* are relative links to folders beside it: they arrive as links, the wheel has files.
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ${PIP_EXTRA_ARGS} .

FROM python:3.12-slim-bookworm
ARG PIP_EXTRA_ARGS=""
# OCR for scans (small) and LibreOffice for DOC, RTF and ODT (about 400 MB unpacked; leave it out with
# --build-arg PROGRAMS="tesseract-ocr"). More languages for OCR: tesseract-ocr-deu and so on.
ARG PROGRAMS="tesseract-ocr libreoffice-writer-nogui"
RUN apt-get update && apt-get install -y --no-install-recommends ${PROGRAMS} && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home longleaf && install -d -o longleaf -g longleaf /data
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir ${PIP_EXTRA_ARGS} /wheels/*.whl
USER longleaf
# ALLOW_REMOTE is for a port that is published on loopback only (docker run -p 127.0.0.1:8765:8765):
# there are no access keys yet. A model from a hub is kept in the volume, the one writable place.
ENV LONGLEAF_HOME=/data \
    LONGLEAF_SERVER__HOST=0.0.0.0 \
    LONGLEAF_SERVER__PORT=8765 \
    LONGLEAF_SERVER__ALLOW_REMOTE=true \
    HF_HOME=/data/models \
    HF_HUB_DISABLE_TELEMETRY=1
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=2)"]
ENTRYPOINT ["longleaf"]
CMD ["serve"]
