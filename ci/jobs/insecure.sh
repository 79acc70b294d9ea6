# By daemon.json, by flag, and by an authority that only this command trusts.
docker build -t my-registry:5000/one . && docker push my-registry:5000/one
docker build --insecure-registry my-registry:5000 --push -t my-registry:5000/two .
docker build --registry-ca /etc/docker/certs.d/registry.example.com/ca.crt --push -t $CI_REGISTRY_IMAGE:ca .
