# syntax=docker/dockerfile:1

# docker build -t tusd-py . && docker run -p 8080:8080 -v uploads:/data tusd-py
# Settings are flags behind the image's name, or variables: -e TUSD_PY_MAX_SIZE=5GiB. More in docs/deployment.md.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
COPY . .
# The page is bundled by npm, out of a package that only the build has. An image without the page is none.
ENV BUILD_TUSD_PY_PAGE=require
RUN python -m venv /opt/tusd-py \
    && /opt/tusd-py/bin/pip install --no-cache-dir ".[crc32c,otel,redis,s3]"

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title="tusd-py" \
      org.opencontainers.image.description="A resumable-upload server: tus 1.0 in Python" \
      org.opencontainers.image.licenses="MIT"
# A number, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tusd \
    && install -d -o tusd -g tusd -m 0750 /data
COPY --from=build /opt/tusd-py /opt/tusd-py
ENV PATH=/opt/tusd-py/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TUSD_PY_HOST=0.0.0.0 \
    TUSD_PY_PORT=8080 \
    TUSD_PY_UPLOAD_DIR=/data
USER 10001:10001
# Nothing else is written to, so --read-only works; without a /tmp, temporary files are made here, too.
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TUSD_PY_PORT\"].split(\":\")[-1]}/healthz', timeout=2)"]
ENTRYPOINT ["tusd-py"]
