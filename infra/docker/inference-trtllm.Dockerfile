# An inference worker on NVIDIA GPUs: NVIDIA's own image of TensorRT-LLM (Python 3.12, CUDA 13.1,
# driver 580 or newer) with Millrace in it. Written for that image, and not built or run yet: no
# machine with a GPU was at hand (README, "What was run on a GPU").
#
#   docker build -f infra/docker/inference-trtllm.Dockerfile -t millrace-trtllm .
#   docker run --rm --gpus all --ipc host --ulimit memlock=-1 --ulimit stack=67108864 \
#     -e MILLRACE_NATS_URL=nats://... -e MILLRACE_NATS_TOKEN=... -e MILLRACE_MODEL=... \
#     -e MILLRACE_MODELS=/etc/millrace/models.yaml -v ./models.yaml:/etc/millrace/models.yaml:ro \
#     -v /models:/models:ro -v trtllm-cache:/data millrace-trtllm
FROM nvcr.io/nvidia/tensorrt-llm/release:1.2.1 AS worker
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
COPY shared shared
COPY services services
COPY infra infra
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/app \
    MILLRACE_DATA=/data \
    TORCHINDUCTOR_CACHE_DIR=/data/inductor TRITON_CACHE_DIR=/data/triton CUDA_CACHE_PATH=/data/cuda
RUN python -c "import services.inference.__main__, services.inference.adapters.trtllm.factory"
RUN useradd --create-home millrace && mkdir /data && chown millrace /data
USER millrace
VOLUME /data
# A worker finishes what it has when it is told to stop: give it two minutes (stop_grace_period).
STOPSIGNAL SIGTERM
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
USER millrace
CMD ["python", "-m", "tests.gpu"]

# The worker is what a build without --target gives.
FROM worker
