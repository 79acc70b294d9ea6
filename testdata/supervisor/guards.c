// Tries what a step must not be able to do, and prints a line for each thing that it could do all the same.
// Arguments: the id of a process outside, the path of a file outside, then words: "supervised", "own-pids",
// "own-devices", "sees-processes", "no-network".
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char **words;

static int is(const char *word) {
    for (char **at = words; *at; at++)
        if (!strcmp(*at, word))
            return 1;
    return 0;
}

static void could(const char *what, const char *detail) { printf("could %s %s\n", what, detail); }

static void denied(const char *what, long result, int expected) {
    if (result != -1)
        could(what, "");
    else if (expected && errno != expected)
        printf("%s: %s instead of %s\n", what, strerror(errno), strerror(expected));
}

static void read_file(const char *how, int fd) {
    char text[4096] = "";
    if (fd < 0)
        return;
    long got = read(fd, text, sizeof text - 1);
    if (got > 0 && memmem(text, got, "canary", 6))
        could("read", how);
    close(fd);
}

// What was left open, by whom a step was started.
static void descriptors(void) {
    char text[64];
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1) {
            snprintf(text, sizeof text, "%d", fd);
            could("use descriptor", text);
        }
}

static void processes(pid_t outsider) {
    char byte;
    struct iovec own = {&byte, 1}, theirs = {(void *)0x400000, 1};
    struct sched_param parameters = {0};
    struct rlimit limit;
    cpu_set_t set;
    denied("signal", kill(outsider, 0), ESRCH);
    denied("end", kill(outsider, SIGTERM), ESRCH);
    denied("signal a thread", syscall(SYS_tkill, outsider, SIGTERM), ESRCH);
    denied("signal a thread of a group", syscall(SYS_tgkill, outsider, outsider, SIGTERM), ESRCH);
    siginfo_t info = {.si_code = SI_QUEUE};
    denied("queue a signal", syscall(SYS_rt_sigqueueinfo, outsider, SIGTERM, &info), ESRCH);
    denied("have a pidfd", syscall(SYS_pidfd_open, outsider, 0), ESRCH);
    denied("read memory", process_vm_readv(outsider, &own, 1, &theirs, 1, 0), ESRCH);
    denied("write memory", process_vm_writev(outsider, &own, 1, &theirs, 1, 0), ESRCH);
    denied("trace", ptrace(PTRACE_ATTACH, outsider, 0, 0), 0);
    denied("seize", ptrace(PTRACE_SEIZE, outsider, 0, 0), 0);
    denied("see limits", syscall(SYS_prlimit64, outsider, RLIMIT_NOFILE, NULL, &limit), ESRCH);
    denied("schedule", sched_setscheduler(outsider, SCHED_BATCH, &parameters), ESRCH);
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    denied("place", sched_setaffinity(outsider, sizeof set, &set), ESRCH);
    denied("set priority", setpriority(PRIO_PROCESS, outsider, 5), ESRCH);
    denied("compare", syscall(SYS_kcmp, outsider, getpid(), 0, 0, 0), ESRCH);
    if (getpgrp() != getpid() || getsid(0) != getpid())
        could("signal who started it,", "being of that group");
    if (!is("own-pids")) {
        // Nobody of the step but the caller: there is no group of that number either.
        denied("signal a group", kill(-outsider, 0), ESRCH);
        denied("signal everybody", kill(-1, 0), ESRCH);
    }
}

static void proc(pid_t outsider) {
    const char *names[] = {"environ", "mem", "maps", "cmdline", "status", "root/etc/passwd", "cwd/.", "exe", "fd/0", "task", "auxv", "stack"};
    char path[256];
    for (unsigned at = 0; at < sizeof names / sizeof *names; at++) {
        pid_t ids[] = {outsider, 1, getppid()};
        if (is("sees-processes") && strstr("cmdline status task", names[at]))
            continue; // what everybody may see
        for (int which = 0; which < (is("own-pids") ? 1 : 3); which++) {
            snprintf(path, sizeof path, "/proc/%d/%s", ids[which], names[at]);
            int fd = open(path, O_RDONLY);
            char byte;
            if (fd >= 0 && (read(fd, &byte, 1) == 1 || errno == EISDIR))
                could("read", path);
            close(fd);
        }
    }
    // Of all that can be seen no environment has what the job's has.
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
        read_file(path, open(path, O_RDONLY));
    }
    if (all)
        closedir(all);
}

static void below(const char *name, int from, const char *path) {
    const char *ups[] = {"", ".", "..", "../..", "../../..", "../../../../../../../../.."};
    char tried[8192];
    for (unsigned at = 0; at < sizeof ups / sizeof *ups; at++) {
        snprintf(tried, sizeof tried, "%s%s", ups[at], path);
        read_file(name, openat(from, tried, O_RDONLY));
        snprintf(tried, sizeof tried, "%s%s%s", ups[at], *ups[at] ? "/" : "", strrchr(path, '/') + 1);
        read_file(name, openat(from, tried, O_RDONLY));
    }
}

static void files(const char *path) {
    const char *starts[] = {"/", "/proc", "/sys", "/dev", "/dev/pts", "/proc/self", "/proc/self/fd", "/proc/self/root", "/proc/self/cwd",
                            "/src", "/src/sub", "/proc/1", "/proc/1/root", "/proc/1/cwd", "/dev/fd", "/tmp"};
    char tried[8192];
    symlink(path, "/tmp/absolute");
    snprintf(tried, sizeof tried, "../../../../../../../..%s", path);
    symlink(tried, "/tmp/relative");
    symlink("/proc/self/root/..", "/tmp/above");
    const char *links[] = {"/tmp/absolute", "/tmp/relative", "/src/up", "/src/absolute"};
    for (unsigned at = 0; at < sizeof links / sizeof *links; at++) {
        read_file(links[at], open(links[at], O_RDONLY));
        truncate(links[at], 0); // the test looks whether it did
    }
    for (unsigned at = 0; at < sizeof starts / sizeof *starts; at++) {
        snprintf(tried, sizeof tried, "%s%s", starts[at], path);
        read_file(tried, open(tried, O_RDONLY));
        int kinds[] = {O_RDONLY, O_PATH};
        for (int kind = 0; kind < 2; kind++) {
            int from = open(starts[at], kinds[kind] | O_DIRECTORY);
            if (from < 0)
                continue;
            below(starts[at], from, path);
            if (!fork()) {
                if (!fchdir(from)) {
                    below(starts[at], AT_FDCWD, path);
                    if (!chdir(".."))
                        below(starts[at], AT_FDCWD, path);
                    for (int up = 0; up < 20; up++)
                        chdir("..");
                    below(starts[at], AT_FDCWD, path);
                }
                // The way out of a root that everybody knows.
                mkdir("/tmp/inner", 0755);
                if (!chroot("/tmp/inner")) {
                    for (int up = 0; up < 20; up++)
                        chdir("..");
                    chroot(".");
                    below("a root in the root", AT_FDCWD, path);
                }
                exit(0);
            }
            wait(NULL);
            close(from);
        }
    }
}

static void machine(void) {
    char room[256] = {0};
    if (is("supervised")) {
        denied("have an io_uring", syscall(425, 8, room), ENOSYS);
        pid_t child = fork();
        if (!child) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); // getpid of i386
            exit(7);
        }
        int status;
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            could("make a 32-bit call", "");
        child = fork();
        if (!child) {
            syscall(0x40000000 | SYS_getpid);
            exit(7);
        }
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            could("make an x32 call", "");
    }
    denied("open by handle", syscall(SYS_open_by_handle_at, AT_FDCWD, room, O_RDONLY), 0);
    denied("load a module", syscall(SYS_init_module, room, 0, room), 0);
    denied("restart the machine", syscall(SYS_reboot, 0, 0, 0, 0), 0);
    denied("set the clock", syscall(SYS_settimeofday, &(struct { long a, b; }){1, 1}, NULL), 0);
    denied("write to kernel settings", open("/proc/sys/kernel/panic", O_WRONLY), 0);
    denied("read kernel memory", open("/proc/kcore", O_RDONLY) < 0 ? -1 : read(open("/proc/kcore", O_RDONLY), room, 1) == 1 ? 0 : -1, 0);
    // Which changes nothing where it is allowed: they have this mode.
    denied("change the machine's /proc", chmod("/proc/uptime", 0444), 0);
    denied("own the machine's /proc", chown("/proc/meminfo", 0, 0), 0);
    if (!is("own-devices"))
        denied("change the machine's devices", chmod("/dev/null", 0666), 0);
    if (is("machine-terminals")) {
        int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
        denied("change the machine's terminals", fchmod(terminal, 0666), EPERM);
        denied("own the machine's terminals", fchown(terminal, 0, 0), EPERM);
        denied("change /dev/ptmx", chmod("/dev/ptmx", 0666), EPERM);
        struct stat input, own;
        if (fstat(0, &input) == 0 && S_ISCHR(input.st_mode) && stat("/dev/null", &own) == 0 && input.st_ino != own.st_ino)
            denied("change its input", fchmod(0, 0666), EPERM);
    }
}

static void network(void) {
    if (!is("no-network"))
        return;
    int kinds[] = {AF_INET, AF_INET6};
    for (int at = 0; at < 2; at++) {
        int fd = socket(kinds[at], SOCK_STREAM, 0);
        if (fd < 0)
            continue;
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x01010101)};
        struct sockaddr_in6 there6 = {.sin6_family = AF_INET6, .sin6_port = htons(53), .sin6_addr = {{{0x20, 1}}}};
        int result = at ? connect(fd, (void *)&there6, sizeof there6) : connect(fd, (void *)&there, sizeof there);
        if (!result || (errno != ENETUNREACH && errno != EACCES && errno != EADDRNOTAVAIL))
            could("reach the network", strerror(errno));
        close(fd);
    }
    if (!is("own-pids")) // nor a network of its own
        denied("see packets", socket(AF_PACKET, SOCK_RAW, 0), 0);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 3)
        return 2;
    words = arguments + 3;
    descriptors();
    processes(atoi(arguments[1]));
    proc(atoi(arguments[1]));
    files(arguments[2]);
    machine();
    network();
    return 0;
}
