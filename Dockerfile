# The service, without torch: build it in a clone, mount exported models read-only.
#
#   docker build --tag halfling .
#   docker run --read-only --publish 127.0.0.1:8000:8000 --volume "$PWD/runs/served:/models/served:ro" halfling /models/served
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /halfling \
 && /halfling/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve]'

FROM python:3.11-slim
COPY --from=build /halfling /halfling
RUN useradd --system --uid 10001 --no-create-home halfling
USER 10001
ENV PATH=/halfling/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
# Within a container its own address is reached by nobody: what is published decides who reaches the service.
ENTRYPOINT ["halfling", "serve", "--host", "0.0.0.0", "--port", "8000"]
