// Threads that change their working directory, and a descriptor, between the tree and /proc, while others use paths that
// are relative to them. Above the root of the tree, and above /proc, is nothing but that root. Argument: seconds. Prints how
// often each of the calls found something else, which is a way out of the tree.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SWAPPED = 100 };
static struct stat root;
static volatile int over;
static long outside[7];

static void judge(int which, int result, const struct stat *found) {
    if (result == 0 && (found->st_ino != root.st_ino || found->st_dev != root.st_dev))
        __atomic_add_fetch(&outside[which], 1, __ATOMIC_RELAXED);
}

static void *change(void *unused) {
    int tree = open("/", O_RDONLY | O_DIRECTORY), proc = open("/proc", O_RDONLY | O_DIRECTORY);
    while (!over) {
        chdir("/proc");
        dup2(proc, SWAPPED);
        chdir("/");
        dup2(tree, SWAPPED);
    }
    return unused;
}

static void *use(void *unused) {
    struct stat found;
    while (!over) {
        judge(0, stat("..", &found), &found);
        judge(1, fstatat(SWAPPED, "..", &found, 0), &found);
        judge(2, fstatat(SWAPPED, "../../.", &found, AT_SYMLINK_NOFOLLOW), &found);
        judge(3, fstatat(SWAPPED, "self/root", &found, 0), &found);
        int fd = open("..", O_PATH | O_DIRECTORY);
        if (fd >= 0) {
            judge(4, fstat(fd, &found), &found);
            close(fd);
        }
        fd = openat(SWAPPED, "..", O_RDONLY | O_DIRECTORY);
        if (fd >= 0) {
            judge(5, fstat(fd, &found), &found);
            close(fd);
        }
    }
    return unused;
}

int main(int count, char **arguments) {
    time_t end = time(NULL) + (count > 1 ? atoi(arguments[1]) : 1);
    pthread_t threads[4];
    if (stat("/", &root) != 0)
        return 1;
    for (int at = 0; at < 4; at++)
        pthread_create(&threads[at], NULL, at % 2 ? change : use, NULL);
    while (time(NULL) < end)
        usleep(10000);
    over = 1;
    for (int at = 0; at < 4; at++)
        pthread_join(threads[at], NULL);
    // What they are in the end, they are: the walk up from a directory that was reached by one of these calls.
    struct stat found;
    for (int at = 0; at < 3; at++)
        judge(6, chdir("..") == 0 ? stat("..", &found) : -1, &found);
    printf("outside:");
    for (int at = 0; at < 7; at++)
        printf(" %ld", outside[at]);
    puts("");
    return 0;
}
