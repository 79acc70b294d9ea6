buildah build -t "$CI_REGISTRY_IMAGE:$CI_COMMIT_SHA" . ; buildah push "$CI_REGISTRY_IMAGE:$CI_COMMIT_SHA"
