docker compose build
docker-compose push
TAG=two docker compose build --push web
