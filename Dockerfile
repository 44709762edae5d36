# One image for every part that is ours: the Airflow components and the API differ in their command only.
FROM python:3.11-slim-bookworm

# OMP_NUM_THREADS stays unset on purpose: the library says for each step how many threads it may use. Tasks of the pool
# `cpu` and searches compute on one core each, a task of the pool `index` on several.
# OpenCV reads its pixel limit once, when it is loaded; `pipeline` sets the same limit, this covers any other import.
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    OPENCV_IO_MAX_IMAGE_PIXELS=100000000 \
    AIRFLOW_HOME=/opt/airflow \
    SLEEVE_HOME=/var/lib/sleeve \
    PYTHONPATH=/opt/sleeve:/opt/sleeve/plugins

# A fresh named volume takes its owner from the folder that it is mounted on, so the folders must exist here.
RUN useradd --uid 10001 --create-home sleeve \
    && install --directory --owner sleeve --group sleeve \
       /opt/airflow /opt/airflow/auth /opt/airflow/logs /var/lib/sleeve

WORKDIR /opt/sleeve
# The requirements come first: a change of the code then leaves this layer, which takes minutes, as it is.
COPY requirements.txt ./
RUN pip install --require-hashes --requirement requirements.txt
# .dockerignore lists what comes along. It belongs to root, so that nothing that runs here can change the code.
COPY . .
# Editable, so that there is one copy of the code and not a second one in site-packages.
RUN pip install --no-deps --no-build-isolation --editable .

USER sleeve
