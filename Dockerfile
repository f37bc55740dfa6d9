# Serves on 8080. The root file system may be read-only, and no capability is needed:
#   docker run --read-only --cap-drop ALL -p 8080:8080 -v ./gateway.yaml:/etc/gateway/gateway.yaml:ro IMAGE -c /etc/gateway/gateway.yaml
# The admin port listens inside the container only, until GATEWAY_ADMIN__HOST=0.0.0.0 and GATEWAY_ADMIN__TOKEN are set.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH
COPY requirements.lock .
RUN pip install --no-cache-dir -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_SERVER__HOST=0.0.0.0
USER 10001:10001
WORKDIR /
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('GATEWAY_SERVER__PORT', 8080), timeout=2)"]
ENTRYPOINT ["gateway", "serve"]
