# Fails where the list of primes below 50 is not right.
set -e
test "$(wc -l < "$1")" = 15
test "$(tail -n 1 "$1")" = 47
