# losslab for one GPU, a machine of several, or none:
#
#   docker build -t losslab --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --rm --gpus all -v "$PWD/outputs:/outputs" losslab loss=mae optimizer=adam trainer=gpu
#
# CUDA comes with PyTorch's own packages, so that the machine needs no more than its driver: 580 or newer, for CUDA 13.
# `docker/check.sh` builds the image and checks what is said here. What is copied is named in .dockerignore.
ARG PYTHON=3.12

# what losslab depends on, as docker/requirements.txt has it: a layer that changes only with that file
FROM python:${PYTHON}-slim AS dependencies
RUN python -m venv --without-pip /opt/losslab
COPY docker/requirements.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/losslab/bin/python install --require-hashes --requirement /build/requirements.txt

# losslab itself, as a wheel
FROM dependencies AS wheel
WORKDIR /build
COPY . .
RUN pip --python /opt/losslab/bin/python wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheel .

FROM python:${PYTHON}-slim AS run
COPY --from=dependencies /opt/losslab /opt/losslab
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/losslab/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl

# Results go to /outputs, which is to be mounted; whoever runs the container may write there, as in /tmp. `outputs` leads
# there, so that a path which is printed holds inside the container and outside.
RUN useradd --uid 1000 --no-create-home --home-dir /tmp losslab && mkdir -m 1777 /outputs
WORKDIR /losslab
RUN ln -s /outputs outputs
COPY train.py ./
COPY sweeps sweeps

# HOME: any user id will do, and a file system that is read only except for /outputs and /tmp. What is downloaded once,
# images and weights, and what `wandb agent` writes lie beside the results. NVIDIA_: which GPUs and what of the driver a
# runtime lets in that is not told by `docker run --gpus`. W&B's key is given when a container is run, and never here.
ENV PATH=/opt/losslab/bin:$PATH \
    HOME=/tmp \
    LOSSLAB_DATA=/outputs/.cache/losslab \
    TORCH_HOME=/outputs/.cache/torch \
    WANDB_DIR=/outputs \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# A batch job, whose exit code says how it went, so there is no HEALTHCHECK. It heeds SIGTERM itself, as process 1: a run
# keeps a checkpoint and ends with 143, and the same command goes on with it.
STOPSIGNAL SIGTERM
USER 1000:1000
ENTRYPOINT ["losslab"]

# the same with what the tests need, in its newest releases, for docker/check.sh: --target test
FROM run AS test
USER 0
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=cache,target=/tmp/.cache/pip \
    for wheel in /wheel/*.whl; do pip --python /opt/losslab/bin/python install "${wheel}[dev]"; done
USER 1000:1000
ENTRYPOINT ["python", "-m", "pytest"]

FROM run AS named
# of which commit it is, for its label and for the record of each run: --build-arg REVISION="$(git rev-parse HEAD)"
ARG REVISION=
ENV LOSSLAB_COMMIT=$REVISION
LABEL org.opencontainers.image.title="losslab" \
      org.opencontainers.image.description="Which loss and which optimizer are better for my task, and is the difference real?" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"

# the same with Ray, for the pods of cluster/kuberay.yaml: --target ray
FROM named AS ray
USER 0
RUN pip --python /opt/losslab/bin/python install --no-cache-dir 'ray[default]==2.60.0'
USER 1000:1000

FROM named AS image
