// A step that makes every call that the supervisor knows with garbage, from many threads that change each other's memory,
// and from processes that are killed in the middle of a call. Arguments: seconds, seed. Prints "alive" at the end.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *PATHS[] = {
    "/", ".", "..", "", "/proc/self/fd/0", "/proc/self/exe", "/proc/self/root/etc/passwd", "/proc/self/cwd/../..",
    "/dev/pts/0", "/dev/ptmx", "../../../../etc/passwd", "/etc/passwd", "/tmp/a", "/tmp/b", "/tmp/loop", "/sys/kernel",
    "/dev/null", "/proc/mounts", "/proc/self/mountinfo", "/proc/1/environ", "/proc/self/task", "/dev/fd/1", "/proc/thread-self/",
    "/tmp/a/b", "//proc//self/./status", "/tmp/to-proc/self/status",
};
enum { SHARED = 1 << 16 };
static char *shared;

static const long CALLS[] = {
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_chmod, SYS_chown, SYS_lchown, SYS_utime,
    SYS_utimes, SYS_futimesat, SYS_mkdir, SYS_mknod, SYS_unlink, SYS_rmdir, SYS_rename, SYS_link, SYS_symlink,
    SYS_renameat, SYS_openat, SYS_openat2, 428 /* open_tree */, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_faccessat,
    439 /* faccessat2 */, SYS_readlinkat, SYS_fchmodat, 452 /* fchmodat2 */, SYS_fchownat, SYS_utimensat, SYS_truncate,
    SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, 468, 469, SYS_inotify_add_watch,
    SYS_name_to_handle_at, SYS_chdir, SYS_execve, SYS_execveat, SYS_getxattr, SYS_setxattr, SYS_listxattr, SYS_removexattr,
    SYS_lgetxattr, SYS_lsetxattr, SYS_llistxattr, SYS_lremovexattr, SYS_bind, SYS_connect, SYS_sendto, SYS_fchmod, SYS_fchown,
    SYS_fsetxattr, SYS_fremovexattr, SYS_getuid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_setgroups, SYS_setresuid,
    SYS_setresgid, SYS_setfsuid, SYS_capget, SYS_capset, SYS_prctl, SYS_getcwd, SYS_uname, SYS_getsockopt, SYS_ioctl,
    SYS_pidfd_open, SYS_process_vm_readv, SYS_kcmp, SYS_setpriority, SYS_prlimit64, SYS_sched_setaffinity, SYS_chroot,
};

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

static uint64_t garbage(uint64_t *state) {
    switch (next(state) % 10) {
    case 0: return 0;
    case 1: return next(state);
    case 2: return next(state) % 8;
    case 3: return (uint64_t)-100;                                // AT_FDCWD
    case 4: return (uint64_t)-1;
    case 5: return 1ull << (next(state) % 64);
    case 6: return (uint64_t)(shared + SHARED - next(state) % 9); // runs over the end of what is mapped
    case 7: return (uint64_t)shared + next(state) % SHARED;
    default: return (uint64_t)shared + next(state) % 64 * 64;     // a path, most likely
    }
}

static void *make_calls(void *seed) {
    uint64_t state = (uint64_t)seed * 2654435761u + 88172645463325252ull;
    for (;;) {
        long call = CALLS[next(&state) % (sizeof CALLS / sizeof *CALLS)];
        uint64_t a[6];
        for (int at = 0; at < 6; at++)
            a[at] = garbage(&state);
        if (call == SYS_prctl && a[0] != 3 && a[0] != 8 && a[0] != 23 && a[0] != 47)
            a[0] = 3; // others could end the thread's usefulness: seccomp, timer slack, MCE
        if (call == SYS_ioctl)
            a[1] = 0x80045430;
        if (call == SYS_prlimit64)
            a[2] = 0; // only asks
        syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    return NULL;
}

static void *change_memory(void *seed) {
    uint64_t state = (uint64_t)seed + 1;
    for (;;) {
        char *at = shared + next(&state) % 64 * 64;
        strncpy(at, PATHS[next(&state) % (sizeof PATHS / sizeof *PATHS)], 64);
        if (next(&state) % 64 == 0)
            memset(shared + 64 * 64, 'a', SHARED - 64 * 64 - 1); // a path without an end, nearly
    }
    return NULL;
}

static void run(uint64_t seed) {
    pthread_t thread;
    for (uint64_t number = 0; number < 4; number++)
        pthread_create(&thread, NULL, make_calls, (void *)(seed * 16 + number));
    pthread_create(&thread, NULL, change_memory, (void *)seed);
    pause();
}

int main(int count, char **arguments) {
    int seconds = count > 1 ? atoi(arguments[1]) : 1;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    char *area = mmap(NULL, SHARED + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    munmap(area + SHARED, 4096);
    shared = area;
    symlink("loop", "/tmp/loop");
    symlink("/proc", "/tmp/to-proc");
    for (int at = 0; at < 64; at++)
        strncpy(shared + at * 64, PATHS[at % (sizeof PATHS / sizeof *PATHS)], 64);
    // Children that are killed after some milliseconds, again and again: each dies in the middle of calls.
    for (int round = 0; round < seconds * 20; round++) {
        pid_t children[3];
        for (int at = 0; at < 3; at++) {
            children[at] = fork();
            if (children[at] == 0) {
                run(seed + round * 3 + at);
                _exit(0);
            }
        }
        usleep(50000);
        for (int at = 0; at < 3; at++)
            kill(children[at], SIGKILL);
        for (int at = 0; at < 3; at++)
            waitpid(children[at], NULL, 0);
    }
    puts("alive");
    return 0;
}
