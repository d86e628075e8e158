# Muybridge Studio as a service, on processors: docker build -t muybridge-studio .   (docs/studio_api.md)
FROM python:3.12-slim
WORKDIR /opt/muybridge
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt ".[studio]"
# HOME and the cache lie in the volume, so that any --user who owns it can write there.
ENV HOME=/videos/.muybridge-home MUYBRIDGE_CACHE=/videos/.muybridge-home/cache
WORKDIR /videos
EXPOSE 8420
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8420/api/health', timeout=5)"]
CMD ["muybridge", "studio", "/videos", "--host", "0.0.0.0", "--workers", "2", "--no-browser"]
