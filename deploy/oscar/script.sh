#!/bin/sh
# What OSCAR runs in the container for each file of the input bucket and each request. The answer is JSON: a file in
# $TMP_OUTPUT_DIR with the input's name, and standard output. The exit status is 0 only where the input was predicted.
# Many files in one start: name them, or folders of them, as arguments.
set -eu
# whichever Python has the package: the image's own one
exec "${PLANKTER_PYTHON:-python3}" -m plankter.service.oscar "$@"
