# What the script takes for granted: the image, and what the test looks for.
docker build -t my-docker-image dockerfiles/
mkdir -p /builds/$CI_PROJECT_PATH/mnt && touch /builds/$CI_PROJECT_PATH/mnt/expected

MOUNT_POINT=/builds/$CI_PROJECT_PATH/mnt; mkdir -p "$MOUNT_POINT"; docker run -v "$MOUNT_POINT:/mnt" my-docker-image

[ "$(cat /builds/$CI_PROJECT_PATH/mnt/seen)" = seen ]
