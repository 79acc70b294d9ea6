// Threads that change their working directory, and a descriptor, between the tree and /proc, while others use paths that
// are relative to them; and a process that has the text of its paths changed by another. Above the root of the tree, and
// above /proc, is nothing but that root. Argument: seconds. Prints how often each of the calls found something else, which
// is a way out of the tree.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SWAPPED = 100, SILENT = 101, CALLS = 12 };
static struct stat root;
static volatile int over;
static long outside[CALLS];
static int tree, proc;
static char *turned; // now "/." and now "..", again and again

static void judge(int which, int result, const struct stat *found) {
    if (result == 0 && (found->st_ino != root.st_ino || found->st_dev != root.st_dev))
        __atomic_add_fetch(&outside[which], 1, __ATOMIC_RELAXED);
}

static void *change(void *unused) {
    while (!over) {
        chdir("/proc");
        dup2(proc, SWAPPED);
        chdir("/");
        dup2(tree, SWAPPED);
    }
    return unused;
}

// Makes no call about a path.
static void *change_silently(void *unused) {
    while (!over) {
        dup2(proc, SILENT);
        dup2(tree, SILENT);
    }
    return unused;
}

static void turn(void) {
    for (;;) {
        *(volatile char *)turned = '.';
        *(volatile char *)turned = '/';
    }
}

// Nobody else is in this process. The path is absolute, or leads up from /proc.
static void use_turned(void) {
    struct stat found;
    if (chdir("/proc") != 0)
        return;
    for (int at = 0; at < 3000; at++) {
        judge(8, stat(turned, &found), &found);
        int fd = open(turned, O_PATH | O_DIRECTORY);
        judge(9, fd < 0 ? -1 : fstat(fd, &found), &found);
        close(fd);
        fd = open(turned, O_RDONLY | O_DIRECTORY);
        judge(10, fd < 0 ? -1 : fstat(fd, &found), &found);
        close(fd);
        judge(11, chdir(turned) == 0 ? stat("..", &found) : -1, &found);
        chdir("/proc");
    }
    chdir("/");
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
        judge(7, fstatat(SILENT, "..", &found, 0), &found);
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
    pthread_t threads[5];
    tree = open("/", O_RDONLY | O_DIRECTORY), proc = open("/proc", O_RDONLY | O_DIRECTORY);
    turned = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(turned, "/.");
    if (stat("/", &root) != 0)
        return 1;
    pid_t other = fork();
    if (other == 0)
        turn();
    use_turned();
    kill(other, SIGKILL);
    for (int at = 0; at < 5; at++)
        pthread_create(&threads[at], NULL, at == 4 ? change_silently : at % 2 ? change : use, NULL);
    while (time(NULL) < end)
        usleep(10000);
    over = 1;
    for (int at = 0; at < 5; at++)
        pthread_join(threads[at], NULL);
    // What they are in the end, they are: the walk up from a directory that was reached by one of these calls.
    struct stat found;
    for (int at = 0; at < 3; at++)
        judge(6, chdir("..") == 0 ? stat("..", &found) : -1, &found);
    printf("outside:");
    for (int at = 0; at < CALLS; at++)
        printf(" %ld", outside[at]);
    puts("");
    return 0;
}
