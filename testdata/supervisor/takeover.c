// A thread runs this program anew, again and again, while the first one makes calls: each time the first one ends and its
// number becomes that of the other. Argument: how often. Prints "done" at the end.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char **arguments;

static void *run(void *left) {
    char count[16];
    snprintf(count, sizeof count, "%ld", (long)left - 1);
    usleep((long)left % 7 * 100);
    execl(arguments[0], arguments[0], count, NULL);
    _exit(1);
}

int main(int count, char **own) {
    arguments = own;
    long left = count > 1 ? atol(own[1]) : 1;
    if (left == 0) {
        puts("done");
        return 0;
    }
    access("/", F_OK);
    pthread_t thread;
    pthread_create(&thread, NULL, run, (void *)left);
    for (;;)
        chdir(left % 2 ? "/" : "/tmp");
}
