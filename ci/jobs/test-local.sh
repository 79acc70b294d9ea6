# What the script takes for granted: an image of these names.
printf 'FROM registry.example.com/library/busybox\nRUN printf "#!/bin/sh\\ncat /home/app/src/main.txt\\n" > /bin/run_app_tests && chmod 755 /bin/run_app_tests\n' > /tmp/Dockerfile
docker build -t test-image -t my-image -f /tmp/Dockerfile .

docker run --rm -t -i -v $(pwd)/src:/home/app/src test-image:latest run_app_tests
docker build -t my-docker-image dockerfiles/ ; docker run my-docker-image /script/to/run/tests ; docker tag my-image my-registry:5000/my-image ; docker push my-registry:5000/my-image
