# Without a home, with one that cannot be written, and with nothing but /tmp.
unset DOCKLESS_HOME
(unset HOME; docker build -t no-home . && docker run --rm no-home)
(export HOME=/; docker build -t root-home . && docker run --rm root-home)
[ "$(docker images --format '{{.Repository}}' no-home)" = no-home ]
