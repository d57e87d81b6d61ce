# plankter as a module of the AI4OS platform, and as a server of its own. See docs/ai4os.md.
#   docker build -t plankter:cpu .                      inference, and training of heads and forests
#   docker build -t plankter:gpu --build-arg tag=gpu .  with torch and its CUDA libraries: trains whole networks
# Inference runs on the CPU in both. The base image is the same: torch's wheels bring CUDA, the host brings the driver.
ARG python=3.12
ARG tag=cpu

FROM python:${python}-slim AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /srv

# git, curl and ps are what deep-start uses; the distribution's versions are taken as they are
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl git procps rclone tini \
 && rm -rf /var/lib/apt/lists/*

# the platform's start script, at a commit that was read
ARG deep_start=0ce78fab1a2d5f661515b2da5235c00f548ef21e
RUN git init --quiet /srv/.deep-start \
 && git -C /srv/.deep-start fetch --quiet --depth 1 https://github.com/ai4os/deep-start "${deep_start}" \
 && git -C /srv/.deep-start checkout --quiet FETCH_HEAD \
 && ln -s /srv/.deep-start/deep-start.sh /usr/local/bin/deep-start

RUN useradd --create-home --shell /bin/bash --uid 1000 plankter \
 && mkdir -p /srv/workspace /srv/.rclone /storage \
 && touch /srv/.rclone/rclone.conf \
 && chown -R plankter:plankter /srv/workspace /srv/.rclone

COPY . /srv/plankter
RUN python3 -m pip install --no-cache-dir "/srv/plankter[deepaas,excel,fast,mlflow,mongodb]"
RUN install -m 755 /srv/plankter/deploy/docker/entrypoint /usr/local/bin/plankter-entrypoint \
 && install -m 755 /srv/plankter/deploy/docker/healthcheck /usr/local/bin/plankter-healthcheck

# RCLONE_CONFIG_RSHARE_{TYPE,URL,VENDOR,USER,PASS} and MLFLOW_TRACKING_{URI,USERNAME,PASSWORD} come from the platform.
# Two processes, so that a training does not block predictions (the server's own default is one).
ENV SHELL=/bin/bash \
    PYTHONUNBUFFERED=1 \
    RCLONE_CONFIG=/srv/.rclone/rclone.conf \
    MLFLOW_DISABLE_TELEMETRY=true \
    DEEPAAS_V2_MODEL=plankter \
    OS_DEFAULT__WORKERS=2 \
    PLANKTER_WORKSPACE=/srv/workspace

# DEEPaaS (or plankter serve), monitoring, notebook
EXPOSE 5000 6006 8888
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["plankter-healthcheck"]
# what happens at run time stands here: the platform replaces CMD
ENTRYPOINT ["tini", "--", "plankter-entrypoint"]
CMD ["deep-start", "--deepaas"]

FROM base AS cpu
RUN python3 -m pip install --no-cache-dir "scikit-learn>=1.4"
USER 1000

FROM base AS gpu
RUN python3 -m pip install --no-cache-dir "/srv/plankter[train]"
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000

# hadolint ignore=DL3006
FROM ${tag}
