# An inference worker on NVIDIA GPUs: NVIDIA's own image of TensorRT-LLM (Python 3.12, CUDA 13.1,
# driver 580 or newer) with Millrace in it. Written for that image, and not built or run yet: no
# machine with a GPU was at hand (README, "What was run on a GPU").
#
#   docker build -f infra/docker/inference-trtllm.Dockerfile -t millrace-trtllm .
#   docker run --rm --gpus all --ipc host --ulimit memlock=-1 --ulimit stack=67108864 \
#     --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --stop-timeout 120 \
#     -e MILLRACE_NATS_URL=nats://... -e MILLRACE_SECRETS=/run/secrets -v ./secrets:/run/secrets:ro \
#     -e MILLRACE_MODEL=... -e MILLRACE_MODELS=/etc/millrace/models.yaml \
#     -v ./models.yaml:/etc/millrace/models.yaml:ro -v /models:/models:ro -v trtllm-cache:/data \
#     millrace-trtllm

# By its exact version: no digest of it was to be had from a source that we could read.
FROM nvcr.io/nvidia/tensorrt-llm/release:1.2.1 AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS worker
WORKDIR /app
# The engine is tested by NVIDIA with the packages of this image, so they stay: of our lock only what
# the image does not have is installed, by hash. What it has may be older than ours; the import below
# fails the build where that matters. The one exception is llguidance, a reader of tokenizers and
# grammars: that of the image (0.7) takes one end token where models have several. What TensorRT-LLM
# itself calls of it is in ours, too (tests/contract/test_trtllm_signatures.py).
COPY requirements.lock infra/docker/absent.py /tmp/lock/
RUN python /tmp/lock/absent.py /tmp/lock/requirements.lock llguidance > /tmp/lock/absent.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r /tmp/lock/absent.lock \
    && rm -r /tmp/lock
RUN groupadd --gid 10001 millrace \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin millrace \
    && install --directory --owner 10001 --group 10001 /data
COPY shared shared
COPY services services
COPY infra infra
# Everything that engine and compilers keep lies in /data: the root file system may be read-only.
ENV PYTHONPATH=/app HOME=/data MILLRACE_DATA=/data \
    MILLRACE_METRICS_HOST=0.0.0.0 MILLRACE_METRICS_PORT=9464 \
    TORCHINDUCTOR_CACHE_DIR=/data/inductor TRITON_CACHE_DIR=/data/triton CUDA_CACHE_PATH=/data/cuda
RUN python -m compileall -q shared services infra \
    && python -c "import services.inference.__main__, services.inference.adapters.trtllm.factory"
USER 10001:10001
EXPOSE 9464
# A worker gives back what it has when it is told to stop, and the engine needs a while to end: give
# it two minutes (stop_grace_period, terminationGracePeriodSeconds).
STOPSIGNAL SIGTERM
# Loading may take half an hour (load_s of the models file); until then it is starting, not ill.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=3 \
    CMD ["python", "infra/docker/health.py", "http://127.0.0.1:9464/healthz"]
CMD ["python", "-m", "services.inference"]

# docker build --target test: the suites against the library itself (`make test-gpu`).
FROM worker AS test
USER root
COPY requirements.lock requirements-dev.lock infra/docker/absent.py /tmp/lock/
RUN python /tmp/lock/absent.py /tmp/lock/requirements-dev.lock > /tmp/lock/absent.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r /tmp/lock/absent.lock \
    && rm -r /tmp/lock
COPY pyproject.toml pyproject.toml
COPY tests tests
USER 10001:10001
CMD ["python", "-m", "tests.gpu"]

# The worker is what a build without --target gives.
FROM worker
