docker login -u gitlab-ci-token -p $CI_JOB_TOKEN registry.example.com
docker pull $CONTAINER_TEST_IMAGE
docker run $CONTAINER_TEST_IMAGE /script/to/run/tests
