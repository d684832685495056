# Two images: cpu (the default, the last stage) and cuda (--target cuda). BuildKit makes only the stages that a target needs.
#
# torch decides the size. On x86-64 Linux the build that pip's usual index offers brings several
# gigabytes of CUDA packages along: what cuda needs and cpu does not. The CPU build comes from any
# index that carries it:
#   docker build --build-arg PIP_EXTRA_ARGS="--extra-index-url URL" .
# There is no default for it, so that the image trusts no index that you did not name.
FROM python:3.12.13-slim-bookworm AS wheel
ARG PIP_EXTRA_ARGS=""
WORKDIR /src
# src/longleaf/* are relative links to folders beside it: they arrive as links, the wheel has files.
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ${PIP_EXTRA_ARGS} .

# Wheels only: a package that would have to be compiled fails here, where there is no compiler either.
FROM python:3.12.13-slim-bookworm AS packages-cpu
ARG PIP_EXTRA_ARGS=""
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/longleaf \
    && /opt/longleaf/bin/pip install --no-cache-dir --only-binary=:all: ${PIP_EXTRA_ARGS} \
       "$(echo /wheels/*.whl)[cpu,postgres,s3,mcp]"

FROM python:3.12.13-slim-bookworm AS packages-cuda
ARG PIP_EXTRA_ARGS=""
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/longleaf \
    && /opt/longleaf/bin/pip install --no-cache-dir --only-binary=:all: ${PIP_EXTRA_ARGS} \
       "$(echo /wheels/*.whl)[gpu,postgres,s3,mcp]"

FROM python:3.12.13-slim-bookworm AS runtime
# OCR for scans (small) and LibreOffice for DOC, RTF and ODT (about 400 MB unpacked; leave it out with
# --build-arg PROGRAMS="tesseract-ocr"). More languages for OCR: tesseract-ocr-deu and so on.
ARG PROGRAMS="tesseract-ocr libreoffice-writer-nogui"
RUN apt-get update && apt-get install -y --no-install-recommends ${PROGRAMS} && rm -rf /var/lib/apt/lists/*
# A new volume takes the owner of the folder it is mounted on: /data is one process's, /shared that of
# all replicas (originals and token vectors of the cluster profile).
RUN useradd --uid 10001 --create-home longleaf && install -d -o longleaf -g longleaf /data /shared
LABEL org.opencontainers.image.title="Longleaf" \
      org.opencontainers.image.description="Search engine for long documents, with two-stage retrieval" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# ALLOW_REMOTE is for a port that is published on loopback only (docker run -p 127.0.0.1:8765:8765):
# until `longleaf keys create` has made a first one, no access key is asked for (docs/access.md). A model from a hub is kept in the volume, the one writable place.
ENV PATH=/opt/longleaf/bin:/usr/local/bin:/usr/bin:/bin \
    LONGLEAF_HOME=/data \
    LONGLEAF_SERVER__HOST=0.0.0.0 \
    LONGLEAF_SERVER__PORT=8765 \
    LONGLEAF_SERVER__ALLOW_REMOTE=true \
    HF_HOME=/data/models \
    HF_HUB_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1
USER longleaf
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=2)"]
ENTRYPOINT ["longleaf"]
CMD ["serve"]

# torch's wheels bring CUDA, the host brings the driver: no NVIDIA base image is needed.
FROM runtime AS cuda
# Triton compiles the launcher of our kernels at first use; without a compiler it is not used, and
# Longleaf says so and computes more slowly.
USER root
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER longleaf
# /tmp is mounted without the right to execute, and the launcher is a library.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_CACHE_DIR=/data/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/data/cache/inductor
COPY --from=packages-cuda /opt/longleaf /opt/longleaf

FROM runtime AS cpu
COPY --from=packages-cpu /opt/longleaf /opt/longleaf
