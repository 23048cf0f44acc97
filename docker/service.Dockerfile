# One file for every image: docker build -f docker/service.Dockerfile --build-arg SERVICE=plant-power .
# `make images` gives the arguments; docs/images.md says more. Works with the legacy builder and with BuildKit.
#
# Layers from common to special, so that seven images share all but a few megabytes of the first two:
# base + bytecode, the packages every service needs, the service's own packages, kappawatt and the service.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS core
# gunicorn_h1c comes as source for Linux: a compiler, here and in no image; without debug information, which would
# hold the path of a temporary folder.
RUN command -v gcc || { apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev; }
# pip takes the two zeros for "do not": finish.py compiles, and nobody looks for scripts here.
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 SOURCE_DATE_EPOCH=315532800 CFLAGS=-g0 LDFLAGS=-s \
    PIP_QUIET=1 PIP_NO_CACHE_DIR=1 PIP_NO_DEPS=1 PIP_NO_COMPILE=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=0
WORKDIR /build
COPY docker/requirements/build.txt ./
RUN python3 -m venv --without-pip backend \
 && python3 -m pip --python backend install --require-hashes --only-binary :all: -r build.txt
COPY docker/finish.py docker/requirements/core.txt ./
RUN python3 -m venv --without-pip /opt/kappawatt \
 && python3 -m pip --python backend wheel --no-build-isolation --require-hashes -w wheels -r core.txt \
 && python3 -m pip --python /opt/kappawatt install --no-index wheels/*.whl \
 && python3 finish.py /opt/kappawatt

FROM core AS packages
ARG SERVICE
ARG EXTRAS=""
COPY docker/requirements requirements
RUN mkdir -p /packages/opt/kappawatt \
 && for name in "$SERVICE" $EXTRAS; do \
      [ "$name" = "$SERVICE" ] || [ -f "requirements/$name.txt" ] \
        || { echo "EXTRAS: got '$name', allowed $(cd requirements && ls)"; exit 1; }; \
      ! grep -qs == "requirements/$name.txt" \
        || python3 -m pip --python /opt/kappawatt install --require-hashes --only-binary :all: --root /packages \
             -r "requirements/$name.txt" || exit 1; \
    done \
 && python3 finish.py /packages

# Two tricks against stale times in caches: an argument with the name of a variable of the stage above does not count
# there, and COPY takes a tree that differs in times alone for the one it has; so the argument has a name of its own, and
# the tree a file with its value.
FROM core AS application
ARG SERVICE
ARG EPOCH=315532800
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY services services
RUN folder=$(echo "$SERVICE" | tr - _) \
 && [ -f "services/$folder/service.py" ] \
 || { echo "SERVICE: got '$SERVICE', allowed $(cd services && ls -d */ | tr -d / | tr _ -)"; exit 1; } \
 && find services -mindepth 1 -maxdepth 1 -type d ! -name "$folder" -exec rm -r {} + \
 && python3 -m pip --python backend wheel --no-build-isolation --no-index -w dist . \
 && python3 -m pip --python /opt/kappawatt install --no-index --root /application dist/*.whl \
 && echo "$EPOCH" > /application/opt/kappawatt/lib/epoch \
 && python3 finish.py /application "$EPOCH"

FROM ${PYTHON_IMAGE} AS runtime
# Nothing is installed later, so pip goes. The public base has no bytecode, and a read-only one could not keep any:
# compiling at every start would take longer than starting.
RUN stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') && touch /tmp/before \
 && rm -rf "$stdlib"/site-packages/pip "$stdlib"/site-packages/pip-* "$stdlib"/ensurepip /usr/local/bin/pip* \
 && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(test|tests|idlelib|tkinter|turtledemo|lib2to3|pydoc_data|site-packages)/' "$stdlib" \
 && find "$stdlib" /usr/local/bin -newer /tmp/before -exec touch -h -d @315532800 {} + && rm /tmp/before
# Their parent, since the folder that COPY names is as old as the build.
COPY --from=core /opt /opt
COPY --from=packages /packages/opt /opt
COPY --from=application /application/opt /opt
ARG SERVICE
ARG PYTHON_IMAGE
ARG USER=10001:10001
ARG VERSION=""
ARG REVISION=""
ARG CREATED=1980-01-01T00:00:00Z
ARG SOURCE=""
ENV PATH=/opt/kappawatt/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    HOME=/tmp OMP_NUM_THREADS=1 KAPPAWATT_SERVICE=${SERVICE}
LABEL org.opencontainers.image.title="kappawatt/${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# The only folder that can be written to in a read-only container; relative paths of settings end up there.
WORKDIR /tmp
USER ${USER}
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["kappawatt-container", "health"]
ENTRYPOINT ["kappawatt-container"]

# For a service whose one process answers while it works (`is_one_process`).
FROM runtime AS consume
CMD ["consume"]

FROM runtime AS service
CMD ["serve"]
