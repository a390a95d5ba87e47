# docker build --build-arg DEVICE=cpu -t scatacformer:cpu .     for any machine
# docker build --build-arg DEVICE=gpu -t scatacformer:gpu .     with CUDA; run it with --gpus all
FROM mambaorg/micromamba:2-debian12

ARG DEVICE=cpu
# the machine that builds the image needs no GPU
ENV CONDA_OVERRIDE_CUDA=12.6

# compilers are for MACS3, which snapatac2 needs
RUN micromamba install --yes --name base --channel conda-forge python=3.12 pip "pytorch-${DEVICE}" c-compiler cxx-compiler \
    && micromamba clean --all --yes
ARG MAMBA_DOCKERFILE_ACTIVATE=1

WORKDIR source
COPY --chown=$MAMBA_USER:$MAMBA_USER pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY --chown=$MAMBA_USER:$MAMBA_USER src src
# torch is conda's; everything else has the versions that are tested together
RUN grep --invert-match '^torch==' constraints.txt > versions.txt \
    && python -m pip install --no-cache-dir --constraint versions.txt . \
    && scatacformer --version

WORKDIR /work
CMD ["scatacformer", "--help"]
