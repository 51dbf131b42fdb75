# docker build -t ebmtrain . && docker run --rm -v "$PWD/outputs:/work/outputs" ebmtrain method=pcd seed=0
FROM python:3.12-slim
# g++ compiles the perceptron at its first use.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY ebmtrain ebmtrain
RUN pip install --no-cache-dir -c constraints.txt ".[data,files]"
WORKDIR /work
ENTRYPOINT ["ebmtrain"]
