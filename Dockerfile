# The small environment of requirements-evaluate.lock in a container: evaluate predictions, take the lessons, read results.
# docs/ways_in.md tells its use; Binder and .devcontainer/ build it too. The whole compendium needs no container: run_all.py.
FROM python:3.11-slim-bookworm

ARG NB_USER=reader
ARG NB_UID=1000
RUN useradd --create-home --uid ${NB_UID} ${NB_USER}
ENV HOME=/home/${NB_USER} OMP_NUM_THREADS=1 PIP_NO_CACHE_DIR=1
WORKDIR ${HOME}/aln-compendium

COPY requirements-evaluate.lock .
RUN pip install --require-hashes -r requirements-evaluate.lock
COPY --chown=${NB_UID} . .
RUN pip install --no-deps --no-build-isolation --editable .

USER ${NB_USER}
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=notebooks/lessons"]
