# What is left of a job that had `services: docker:dind`.
export DOCKER_HOST=tcp://docker:2375 DOCKER_TLS_CERTDIR=/certs DOCKER_DRIVER=overlay2
docker info
docker build -t $CI_REGISTRY_IMAGE:dind .
docker push $CI_REGISTRY_IMAGE:dind
