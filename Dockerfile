# Three images from one file: `gateway` (no torch, no build tools), `export` (torch, transformers; runs once), and `demo`,
# which is `make serve` in one container.

# A tag moves; to build from one and the same image, append its digest: 3.11-slim-bookworm@sha256:…
ARG PYTHON_TAG=3.11-slim-bookworm

FROM python:${PYTHON_TAG} AS python
ENV PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:${PATH}
# A fixed number, so that files in volumes keep their owner across images and rebuilds.
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app


FROM python AS build
WORKDIR /src
# Without pip of its own: the finished environment is copied as it is.
RUN python -m venv --without-pip /opt/venv
COPY requirements requirements
# Optional extras of the gateway, comma-separated: evaluate (jobs of the console), heic, oidc, redis, review, traces.
ARG GATEWAY_EXTRAS=
# By hash, and nothing is built from source.
RUN --mount=type=cache,target=/root/.cache/pip \
    set -f; files="gateway$(printf '%s' "${GATEWAY_EXTRAS:+,$GATEWAY_EXTRAS}")"; \
    pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: \
        $(printf '%s' "$files" | tr ',' '\n' | sed 's|.*|--requirement requirements/&.txt|')
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gateway gateway
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: --requirement requirements/build.txt \
    && pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/venv/bin/python install --no-deps --no-index /dist/*.whl


# With the perceptual hash, which is published as source alone; the compiler stays here.
FROM build AS build-gateway
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: --requirement requirements/compile.txt \
    && pip wheel --require-hashes --no-binary :all: --no-deps --no-build-isolation --wheel-dir /pdq \
        --requirement requirements/pdq.txt \
    && pip --python /opt/venv/bin/python install --no-deps --no-index /pdq/*.whl


FROM build AS build-export
# Another index beside the usual one, for PyTorch's CPU wheels; without it the wheel that also knows CUDA is installed,
# which runs on both and is some gigabytes larger. By exact version, not by hash: the wheel depends on the index.
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --constraint constraints.txt "$(echo /dist/*.whl)[export,openvino]"


FROM python AS runtime
# Nothing can be installed into a running container.
RUN pip uninstall --yes --quiet pip setuptools wheel \
    && mkdir -p /models /cache /data \
    && chown app:app /models /cache /data
WORKDIR /app


FROM runtime AS export
COPY --from=build-export /opt/venv /opt/venv
COPY scripts scripts
ENV HF_HOME=/cache
USER 10001:10001
ENTRYPOINT ["python", "-m", "scripts.export", "--into", "/models"]


# Triton's server out of its wheel beside the export's packages: the whole stack for trying it. As `make serve`, it exports
# MODEL at its first start, for the cores that it finds.
FROM build-export AS build-demo
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --no-deps --target /opt/venv/triton nvidia-pytriton


FROM runtime AS demo
COPY --from=build-demo /opt/venv /opt/venv
COPY scripts scripts
# Beyond loopback it asks for keys as ever, unless it is told otherwise: GATEWAY_ALLOW_OPEN=true.
ENV GATEWAY_HOST=0.0.0.0 MODEL_REPOSITORY=/models DATA_DIR=/data HF_HOME=/cache DEVICE=cpu
USER 10001:10001
VOLUME ["/models", "/data", "/cache"]
EXPOSE 8000
CMD ["python", "-m", "scripts.serve"]


FROM runtime AS gateway
COPY --from=build-gateway /opt/venv /opt/venv
ENV GATEWAY_HOST=0.0.0.0 MODEL_REPOSITORY=/models DATA_DIR=/data LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000
# http.client: it reads no proxy from the environment.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('GATEWAY_PORT', '8000')), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["clip-gateway", "serve"]
