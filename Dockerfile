# The service in a container, for a CPU (default) or for CUDA:
#
#   docker build --target cpu -t graft .      docker build --target cuda -t graft .
#   docker run -p 127.0.0.1:8000:8000 -v graft:/data graft
#
# Without a build argument pip's own torch is taken, which on Linux brings CUDA. For the CPU build name the package index
# that pytorch.org shows for "CPU": --build-arg PIP_EXTRA_INDEX_URL=...

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HF_HOME=/data/hub
RUN useradd --create-home --uid 1000 graft
RUN mkdir -p /data /opt/graft && chown graft /data /opt/graft
USER graft
WORKDIR /opt/graft
ENV PATH=/opt/graft/.venv/bin:$PATH
RUN python -m venv .venv
COPY --chown=graft pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=graft configs configs
COPY --chown=graft tokenizer_ext tokenizer_ext
COPY --chown=graft scratch_models scratch_models
COPY --chown=graft finetune finetune
COPY --chown=graft apps apps
WORKDIR /data
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Other machines reach a container: the service asks for a key, which `docker run -it graft python -m apps.service keys
# --add NAME --may train` makes.
ENTRYPOINT ["python", "-m", "apps.service"]
CMD ["--host", "0.0.0.0"]

FROM base AS cuda
RUN cd /opt/graft && pip install -c constraints.txt -e '.[all]'

FROM base AS cpu
# pip reads it by itself, and takes a version with a local part, such as 2.13.0+cpu, before one without.
ARG PIP_EXTRA_INDEX_URL
RUN cd /opt/graft && pip install -c constraints.txt -e '.[all]'
