/* Looks at files in ways that must be answered alike whether a program takes shortcuts past the supervisor or not, and tries
 * what shortcuts would allow without a fence. Linked with the C library of the tree. Says what is wrong; nothing if nothing is.
 *
 * shortcuts SECRET PID        SECRET is a file outside, beside the source of the mount /src; PID is a process outside
 * shortcuts records WHAT      where owners are recorded: WHAT is "links" or "pipe", which a step has the first record of, or
 *                             "later" for a step after the one with "links"
 * shortcuts outside           where they are, and the tree is nobody's root */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *where = "";
#define CHECK(what) \
    do { \
        errno = 0; \
        if (!(what)) { printf("%s: not so: %s (errno %d)\n", where, #what, errno); fflush(stdout); } \
    } while (0)

static int takes_shortcuts(void) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) found |= strstr(line, "r-xp") && strstr(line, " (deleted)");
    if (maps) fclose(maps);
    return found;
}

/* The switch of shortcuts, from where the library's own code has it: after the token, before a byte that tells of records. */
static unsigned char *found_switch(void *function) {
    unsigned char *at = function;
    int32_t distance;
    for (int byte = 0; byte < 20; byte++, at++)
        if (at[0] == 0xe9) {
            memcpy(&distance, at + 1, 4);
            unsigned char *code = at + 5 + distance;
            if (code[0] != 0x80 || code[1] != 0x3d) return NULL;
            memcpy(&distance, code + 2, 4);
            return code + 7 + distance;
        }
    return NULL;
}

static uint64_t token(void) {
    unsigned char *at = found_switch(readlink);
    uint64_t value = 0;
    if (at) memcpy(&value, at - 8, 8);
    return value;
}

static int same(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

/* What a directory says that the kind of an entry is; -1 if it has none of that name. */
static int listed(int directory, const char *name) {
    char entries[4096];
    int kind = -1;
    for (long length; (length = getdents64(directory, entries, sizeof entries)) > 0;)
        for (long at = 0; at < length;) {
            struct dirent64 *entry = (struct dirent64 *)(entries + at);
            if (!strcmp(entry->d_name, name)) kind = entry->d_type;
            at += entry->d_reclen;
        }
    return kind;
}

static int listed_at(const char *path, const char *name) {
    int directory = open(path, O_RDONLY | O_DIRECTORY), kind = listed(directory, name);
    close(directory);
    return kind;
}

static void directories(void) {
    char entries[64];
    CHECK(found_switch(getdents64));
    CHECK(listed_at("/", "proc") == DT_DIR && listed_at("/", "sys") == DT_DIR && listed_at("/", "src") == DT_DIR);
    CHECK(listed_at("/", "to-proc") == DT_LNK && listed_at("/", "bin") == DT_DIR && listed_at("/bin", "shortcuts") == DT_REG);
    CHECK(listed_at("/dev", "pts") == DT_DIR && listed_at("/dev", "fd") == DT_LNK && listed_at("/deep", "place") == DT_DIR);
    CHECK(getdents64(-1, entries, sizeof entries) == -1 && errno == EBADF);
    CHECK(getdents64(open("/bin/shortcuts", O_RDONLY), entries, sizeof entries) == -1 && errno == ENOTDIR);
    CHECK(getdents64(open("/bin", O_RDONLY), entries, 1) == -1 && errno == EINVAL);
    CHECK(getdents64(open("/bin", O_RDONLY), (char *)8, 4096) == -1 && errno == EFAULT);
}

/* A link to itself is one of the tree's own; a barrier is what is shown there. */
static void links(void) {
    struct stat there;
    struct statx extended;
    char text[64] = "";
    CHECK(symlink("x", "/one") == 0 && readlink("/one", text, sizeof text) == 1 && text[0] == 'x');
    CHECK(symlink(".//like", "/like") == 0 && readlink("/like", text, sizeof text) == 7 && !memcmp(text, ".//like", 7));
    CHECK(readlinkat(AT_FDCWD, "like", text, sizeof text) == 7 && readlink("/like", text, 2) == 2 && readlink("/like", text, 3) == 3);
    CHECK(symlink("./..", "/near") == 0 && readlink("/near", text, sizeof text) == 4 && readlinkat(AT_FDCWD, "/near", text, 3) == 3);
    CHECK(open("/like", O_RDONLY) == -1 && errno == ELOOP);
    CHECK(lstat("/like", &there) == 0 && S_ISLNK(there.st_mode) && there.st_size == 7);
    CHECK(fstatat(AT_FDCWD, "like", &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(there.st_mode));
    CHECK(statx(AT_FDCWD, "/like", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &extended) == 0 && S_ISLNK(extended.stx_mode));
    for (int length = 1; length < 5; length++)
        CHECK(readlink("/proc", text, length) == -1 && errno == EINVAL && readlinkat(AT_FDCWD, "dev/pts", text, length) == -1 && errno == EINVAL);
    for (int mask = 0; mask <= STATX_INO; mask += STATX_INO)
        CHECK(statx(AT_FDCWD, "/src", AT_SYMLINK_NOFOLLOW, STATX_TYPE | mask, &extended) == 0 && S_ISDIR(extended.stx_mode));
    CHECK(lstat("/dev/pts", &there) == 0 && S_ISDIR(there.st_mode) && lstat("/src", &there) == 0 && S_ISDIR(there.st_mode));
    CHECK(fstatat(open("/deep", O_RDONLY), "place", &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(there.st_mode));
    CHECK(fstatat(open("/dev", O_RDONLY), "pts", &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(there.st_mode));
    CHECK(unlink("/one") == 0 && unlink("/like") == 0 && unlink("/near") == 0);
    /* Nothing takes the place of a directory that has a place. */
    CHECK(rename("/deep", "/moved") == -1 && errno == EBUSY && rmdir("/deep") == -1 && unlink("/deep/place") == -1 && errno == EBUSY);
}

static void send_descriptor(int socket, int descriptor) {
    char control[CMSG_SPACE(sizeof descriptor)] = {0};
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int receive_descriptor(int socket) {
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte;
    struct iovec room = {&byte, 1};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int descriptor = -1;
    CHECK(recvmsg(socket, &message, 0) == 1 && CMSG_FIRSTHDR(&message));
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

static const char *secret, *outsider;

/* Who has shortcuts is sent a directory that nobody has who has them. */
static void sent_directory(void) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    if (fork() == 0) {
        send_descriptor(ends[1], open("/proc", O_RDONLY | O_DIRECTORY));
        _exit(0);
    }
    int directory = receive_descriptor(ends[0]);
    CHECK(listed(directory, outsider) == -1);
    CHECK(lseek(directory, 0, SEEK_SET) == 0 && listed(directory, "version") == DT_REG);
    wait(NULL);
}

static void barriers(void) {
    struct stat root, proc, there;
    char text[64];
    CHECK(lstat("/proc", &proc) == 0 && S_ISDIR(proc.st_mode));
    CHECK(lstat("/", &root) == 0 && !(root.st_dev == proc.st_dev));
    CHECK(readlink("/proc", text, sizeof text) == -1 && errno == EINVAL);
    CHECK(readlink("/proc/self", text, sizeof text) > 0 && atoi(text) != 0);
    CHECK(readlink("/to-proc", text, sizeof text) == 5);
    CHECK(stat("/to-proc", &there) == 0 && same(&there, &proc));
    CHECK(access("/to-proc/self/stat", R_OK) == 0);
    CHECK(access("/to-proc/nothing", R_OK) == -1 && errno == ENOENT);
    CHECK(access("/nothing", R_OK) == -1 && errno == ENOENT);
    CHECK(open("/bin/nothing", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(open("/to-proc/self/stat", O_RDONLY) >= 0);
    CHECK(stat("/to-src/file", &there) == 0 && S_ISREG(there.st_mode));
    CHECK(open("/proc", O_RDONLY | O_NOFOLLOW | O_CLOEXEC) >= 0);
    CHECK(fstatat(AT_FDCWD, "proc", &there, AT_SYMLINK_NOFOLLOW) == 0 && same(&there, &proc));
    struct statx statx_proc;
    CHECK(statx(AT_FDCWD, "/proc", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &statx_proc) == 0 && S_ISDIR(statx_proc.stx_mode));
    CHECK(stat((char *)8, &there) == -1 && errno == EFAULT);
    CHECK(access((char *)8, R_OK) == -1 && errno == EFAULT);
    CHECK(readlink("/bin", (char *)8, 8) == -1);
}

/* What is above a place is what the tree has there, not what the machine has. */
static void above(int directory) {
    struct stat root, there;
    CHECK(stat("/", &root) == 0);
    CHECK(fstatat(directory, "..", &there, 0) == 0 && same(&there, &root));
    CHECK(fstatat(directory, "../secret", &there, 0) == -1 && errno == ENOENT);
    CHECK(faccessat(directory, "../bin/shortcuts", R_OK, 0) == 0);
    CHECK(openat(directory, "../secret", O_RDONLY) == -1 && errno == ENOENT);
}

static void in_child(const char *name, void (*work)(void)) {
    fflush(stdout);
    where = name;
    pid_t child = fork();
    if (child == 0) {
        CHECK(takes_shortcuts());
        work();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (status) printf("%s: ended with %x\n", name, status);
}

static void working_directory(void) {
    CHECK(chdir("/src") == 0);
    above(AT_FDCWD);
    if (fork() == 0) {
        where = "child of who is in a place";
        above(AT_FDCWD);
        fflush(stdout);
        execl("/bin/shortcuts", "shortcuts", "above", NULL);
        _exit(1);
    }
    wait(NULL);
}

static void descriptor(void) {
    int directory = open("/src", O_RDONLY | O_DIRECTORY);
    CHECK(directory >= 0);
    above(directory);
    int named = open("/src", O_PATH);
    above(named);
}

static void descriptor_by_link(void) {
    above(open("/to-src", O_RDONLY | O_DIRECTORY));
}

static void other_user(void) {
    CHECK(open("/root/own", O_RDONLY) >= 0);
    CHECK(setresuid(1234, 1234, 1234) == 0);
    CHECK(open("/root/own", O_RDONLY) == -1 && errno == EACCES);
    CHECK(access("/root/own", F_OK) == -1 && errno == EACCES);
    struct stat there;
    CHECK(stat("/root/own", &there) == -1 && errno == EACCES);
}

static void other_group(void) {
    CHECK(open("/bin/shortcuts", O_RDONLY) >= 0);
    CHECK(setegid(77) == 0 && seteuid(77) == 0);
    CHECK(open("/root/own", O_RDONLY) == -1 && errno == EACCES);
    CHECK(seteuid(0) == 0);
    CHECK(open("/root/own", O_RDONLY) >= 0);
}

static void other_root(void) {
    struct stat there;
    CHECK(chroot("/other") == 0);
    CHECK(stat("/only-there", &there) == 0);
    CHECK(access("/bin/shortcuts", F_OK) == -1 && errno == ENOENT);
}

/* As a program would that knows the token. */
static long past(int directory, const char *path, int flags) {
    return syscall(SYS_openat, directory, path, flags, 0, 0, token());
}

static void fenced(void) {
    char path[4096], up[4096] = "";
    CHECK(token() != 0);
    CHECK(past(AT_FDCWD, "/bin/shortcuts", O_RDONLY) >= 0);
    CHECK(chdir("/src") == 0);
    CHECK(past(AT_FDCWD, "file", O_RDONLY) >= 0);
    CHECK(past(AT_FDCWD, "../secret", O_RDONLY) == -1);
    CHECK(past(AT_FDCWD, "..", O_RDONLY | O_DIRECTORY) == -1);
    for (int level = 0; level < 20; level++) strcat(up, "../");
    snprintf(path, sizeof path, "%s%s", up, secret);
    CHECK(past(AT_FDCWD, path, O_RDONLY) == -1);
    snprintf(path, sizeof path, "%s/etc/hostname", up);
    CHECK(past(AT_FDCWD, path, O_RDONLY) == -1);
    CHECK(chdir("/proc") == 0);
    snprintf(path, sizeof path, "%s/environ", outsider);
    CHECK(past(AT_FDCWD, path, O_RDONLY) == -1);
    CHECK(past(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY) == -1);
    /* None of these is let past at all: they end at the supervisor, which knows better. */
    CHECK(syscall(SYS_openat, AT_FDCWD, "../secret", O_RDWR, 0, 0, token()) == -1);
    CHECK(syscall(SYS_openat, AT_FDCWD, "../made", O_WRONLY | O_CREAT, 0600, 0, token()) >= 0);
    CHECK(access("/made", F_OK) == 0);
}

/* All the ways to ask, which are to tell the same. */
static int belongs(const char *path, unsigned uid, unsigned gid, unsigned mode) {
    struct stat seen[7];
    struct statx extended[2];
    char below[256];
    int root = open("/", O_RDONLY | O_DIRECTORY), itself = open(path, O_RDONLY | O_NONBLOCK), good = 1;
    snprintf(below, sizeof below, "%s", path + 1);
    good &= stat(path, &seen[0]) == 0 && lstat(path, &seen[1]) == 0 && fstat(itself, &seen[2]) == 0;
    good &= fstatat(root, below, &seen[3], 0) == 0 && fstatat(root, below, &seen[4], AT_SYMLINK_NOFOLLOW) == 0;
    good &= fstatat(root, path, &seen[5], 0) == 0 && fstatat(itself, "", &seen[6], AT_EMPTY_PATH) == 0;
    good &= statx(root, below, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &extended[0]) == 0;
    good &= statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &extended[1]) == 0;
    if (!good) printf("%s: %s cannot be seen (errno %d)\n", where, path, errno);
    for (int way = 0; good && way < 7; way++)
        if (seen[way].st_uid != uid || seen[way].st_gid != gid || seen[way].st_mode != mode) {
            printf("%s: %s: way %d: %u:%u %o\n", where, path, way, seen[way].st_uid, seen[way].st_gid, seen[way].st_mode);
            good = 0;
        }
    for (int way = 0; good && way < 2; way++)
        if (extended[way].stx_uid != uid || extended[way].stx_gid != gid || extended[way].stx_mode != mode) {
            printf("%s: %s: statx %d: %u:%u %o\n", where, path, way, extended[way].stx_uid, extended[way].stx_gid, extended[way].stx_mode);
            good = 0;
        }
    close(root), close(itself);
    return good;
}

static void owners(void) {
    struct stat there;
    struct statx extended;
    CHECK(close(open("/plain", O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
    CHECK(close(open("/given", O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
    CHECK(mkdir("/directory", 0755) == 0 && mkdir("/theirs", 0755) == 0);
    CHECK(belongs("/plain", 0, 0, S_IFREG | 0644) && belongs("/directory", 0, 0, S_IFDIR | 0755));
    CHECK(belongs("/given", 0, 0, S_IFREG | 0644) && belongs("/given", 0, 0, S_IFREG | 0644) && belongs("/theirs", 0, 0, S_IFDIR | 0755));
    CHECK(chown("/given", 5, 6) == 0 && belongs("/given", 5, 6, S_IFREG | 0644));
    CHECK(chmod("/given", 04711) == 0 && belongs("/given", 5, 6, S_IFREG | 04711));
    CHECK(chown("/theirs", 7, 8) == 0 && chmod("/theirs", 03775) == 0 && belongs("/theirs", 7, 8, S_IFDIR | 03775));
    CHECK(close(open("/theirs/new", O_WRONLY | O_CREAT, 0600)) == 0 && belongs("/theirs/new", 0, 8, S_IFREG | 0600));
    CHECK(chown("/given", 0, 0) == 0 && chmod("/given", 0600) == 0 && belongs("/given", 0, 0, S_IFREG | 0600));
    CHECK(chmod("/plain", 0) == 0 && belongs("/plain", 0, 0, S_IFREG));
    /* Where the tree is nobody's root nothing is told, since links are always asked for. */
    unsigned char *at = strcmp(where, "outside") ? found_switch(readlink) : NULL;
    int told[2], looked[2];
    CHECK(!at || !at[1]);
    CHECK(pipe(told) == 0 && pipe(looked) == 0 && symlink("plain", "/link") == 0);
    CHECK(lstat("/link", &there) == 0 && there.st_uid == 0 && there.st_gid == 0 && S_ISLNK(there.st_mode));
    if (fork() == 0) {
        where = "child that saw a link without a record";
        CHECK(lstat("/link", &there) == 0 && there.st_uid == 0 && write(looked[1], "x", 1) == 1);
        CHECK(read(told[0], &there, 1) == 1);
        CHECK(!at || at[1]);
        CHECK(lstat("/link", &there) == 0 && there.st_uid == 9 && there.st_gid == 10);
        fflush(stdout);
        _exit(0);
    }
    CHECK(read(looked[0], &there, 1) == 1 && lchown("/link", 9, 10) == 0 && write(told[1], "x", 1) == 1);
    wait(NULL);
    CHECK(!at || at[1]);
    CHECK(statx(AT_FDCWD, "/link", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &extended) == 0 && extended.stx_uid == 9 && extended.stx_gid == 10);
    CHECK(lstat("/link", &there) == 0 && there.st_uid == 9 && there.st_gid == 10 && S_ISLNK(there.st_mode));
    CHECK(fstatat(AT_FDCWD, "link", &there, 0) == 0 && there.st_uid == 0 && S_ISREG(there.st_mode));
    CHECK(mknod("/device", S_IFCHR | 0640, 0x103) == 0 && lstat("/device", &there) == 0);
    CHECK(S_ISCHR(there.st_mode) && there.st_rdev == 0x103 && (there.st_mode & 07777) == 0640);
    CHECK(stat("/dev/null", &there) == 0 && S_ISCHR(there.st_mode));
    CHECK(stat("/none", &there) == -1 && errno == ENOENT);
    CHECK(stat("/plain/none", &there) == -1 && errno == ENOTDIR);
    CHECK(stat((char *)8, &there) == -1 && errno == EFAULT);
    CHECK(stat("/plain", (struct stat *)8) == -1 && errno == EFAULT);
    char text[64];
    CHECK(readlink("/link", text, sizeof text) == 5 && readlink("/plain", text, sizeof text) == -1 && errno == EINVAL);
    CHECK(readlink("/proc/self", text, sizeof text) > 0 && atoi(text) == getpid());
}

/* What a step before has recorded. */
static void later(void) {
    struct stat there;
    unsigned char *at = found_switch(readlink);
    CHECK(at && at[1] && lstat("/link", &there) == 0 && there.st_uid == 9 && there.st_gid == 10);
}

static int exit_of_child(void (*work)(const char *), const char *path) {
    int status;
    if (fork() == 0) {
        errno = 0;
        work(path);
        _exit(errno);
    }
    wait(&status);
    return status;
}

static void give(const char *path) { chown(path, 5, 6); }
static void give_open(const char *path) { fchown(open(path, O_RDONLY), 7, 8); }
static void give_below(const char *path) { fchownat(open("/remembered", O_RDONLY), strrchr(path, '/') + 1, 9, 9, AT_SYMLINK_NOFOLLOW); }
static void set_id(const char *path) { chmod(path, 06755); }
static void make_as_other(const char *path) {
    setresgid(41, 41, 41), setresuid(40, 40, 40);
    open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
}

/* What is known of a file is forgotten when another process changes it. */
static void remembered(void) {
    CHECK(mkdir("/remembered", 0777) == 0 && chmod("/remembered", 0777) == 0);
    for (int round = 0; round < 3; round++)
        for (int way = 0; way < 5; way++) {
            void (*const works[])(const char *) = {give, give_open, give_below, set_id, make_as_other};
            const unsigned owners[][2] = {{5, 6}, {7, 8}, {9, 9}, {0, 0}, {40, 41}};
            const char *path = "/remembered/file";
            CHECK(close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600)) == 0);
            CHECK(belongs(path, 0, 0, S_IFREG | 0600) && belongs(path, 0, 0, S_IFREG | 0600));
            if (way == 4) CHECK(unlink(path) == 0); /* the next one may have its inode */
            CHECK(exit_of_child(works[way], path) == 0);
            CHECK(belongs(path, owners[way][0], owners[way][1], S_IFREG | (way == 3 ? 06755 : 0600)));
            CHECK(unlink(path) == 0);
        }
    CHECK(exit_of_child(give, "/remembered") == 0 && belongs("/remembered", 5, 6, S_IFDIR | 0777));
}

/* What others make before any link has a record. */
static void others_pipe(void) {
    struct stat there;
    unsigned char *at = found_switch(readlink);
    CHECK(at && !at[1]);
    CHECK(mkdir("/shared", 0777) == 0 && chmod("/shared", 0777) == 0 && mkfifo("/shared/own", 0600) == 0);
    CHECK(lstat("/shared/own", &there) == 0 && S_ISFIFO(there.st_mode) && there.st_uid == 0);
    if (fork() == 0) {
        setresgid(31, 31, 31), setresuid(30, 30, 30);
        _exit(mkfifo("/shared/pipe", 0640));
    }
    int status;
    wait(&status);
    CHECK(status == 0 && at && at[1]);
    CHECK(lstat("/shared/pipe", &there) == 0 && S_ISFIFO(there.st_mode) && there.st_uid == 30 && there.st_gid == 31);
}

/* Files that are called as what tells of a process are opened once. */
static void called_status(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, seen = lock;
    int file = open("/status", O_RDWR | O_CREAT | O_EXCL, 0600), again;
    CHECK(fcntl(file, F_SETLK, &lock) == 0 && (again = open("/status", O_RDONLY)) >= 0);
    if (fork() == 0) _exit(fcntl(file, F_GETLK, &seen) == 0 && seen.l_type == F_WRLCK ? 0 : 1);
    int status;
    wait(&status);
    CHECK(status == 0);
    char line[64] = "";
    CHECK((again = open("/proc/self/status", O_RDONLY)) >= 0 && read(again, line, 5) == 5 && !strcmp(line, "Name:"));
    CHECK(again == file + 2 && (again = open("/proc/version", O_RDONLY)) == file + 3);
    CHECK(symlink("/status", "/atus") == 0 && chdir("/") == 0 && open("atus", O_RDONLY) == file + 4 && open("tus", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(open((char *)8, O_RDONLY) == -1 && errno == EFAULT);
}

/* Names that mean something to the machine, too. */
static void names(void) {
    struct stat there, same_one;
    int root = open("/", O_RDONLY | O_DIRECTORY);
    CHECK(fstat(open("/root", O_RDONLY), &same_one) == 0 && lstat("/root", &there) == 0 && same(&there, &same_one));
    CHECK(fstatat(root, "/root", &there, AT_SYMLINK_NOFOLLOW) == 0 && same(&there, &same_one));
    CHECK(fstat(root, &same_one) == 0 && fstatat(root, "..", &there, AT_SYMLINK_NOFOLLOW) == 0 && same(&there, &same_one));
    CHECK(fstatat(root, "root/../..", &there, AT_SYMLINK_NOFOLLOW) == 0 && same(&there, &same_one));
}

static void processes(void) {
    int told[2];
    char path[64], line[128];
    CHECK(pipe(told) == 0);
    pid_t child = fork();
    if (child == 0) {
        setresgid(21, 21, 21);
        setresuid(20, 20, 20);
        write(told[1], "x", 1);
        pause();
    }
    read(told[0], line, 1);
    struct stat there;
    struct statx extended;
    snprintf(path, sizeof path, "/proc/%d", child);
    CHECK(stat(path, &there) == 0 && there.st_uid == 20 && there.st_gid == 21);
    CHECK(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &extended) == 0 && extended.stx_uid == 20 && extended.stx_gid == 21);
    strcat(path, "/status");
    FILE *status = fopen(path, "r");
    int right = 0;
    while (status && fgets(line, sizeof line, status)) right |= !strncmp(line, "Uid:\t20\t", 8);
    CHECK(right);
    kill(child, 9);
    wait(NULL);
}

/* The error of each call that looks at a path, the same for all of them; 0 for none. Each is asked more than once, so that
 * what is known by then is told, too. */
static int error_of(const char *path) {
    struct stat there;
    struct statx extended;
    char text[64];
    int error = -1;
    for (int way = 0; way < 20; way++) {
        int file = -1;
        errno = 0;
        switch (way % 10) {
        case 0: stat(path, &there); break;
        case 1: lstat(path, &there); break;
        case 2: fstatat(AT_FDCWD, path, &there, 0); break;
        case 3: statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &extended); break;
        case 4: access(path, F_OK); break;
        case 5: faccessat(AT_FDCWD, path, R_OK, 0); break;
        case 6: file = open(path, O_RDONLY | O_NONBLOCK); break;
        case 7: file = openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); break;
        case 8: if (readlink(path, text, sizeof text) == -1 && errno == EINVAL) errno = 0; break;
        case 9: if (readlinkat(AT_FDCWD, path, text, sizeof text) == -1 && errno == EINVAL) errno = 0; break;
        }
        int found = errno;
        if (file >= 0) close(file);
        if (way && found != error) {
            printf("%s: %s: way %d: errno %d, not %d\n", where, path, way % 10, found, error);
            return -1;
        }
        error = found;
    }
    return error;
}

static int link_error(const char *path) {
    char text[64];
    int before = readlink(path, text, sizeof text) == -1 ? errno : 0;
    int after = readlink(path, text, sizeof text) == -1 ? errno : 0;
    return before == after ? before : -1;
}

/* What is known of a path, and what is not any more. */
static void paths(void) {
    CHECK(mkdir("/found", 0755) == 0);
    /* Nothing is there, and then something, by each way to make it. */
    const char *made[] = {"/found/file", "/found/directory", "/found/link", "/found/hard", "/found/moved", "/found/pipe", "/found/socket", "/found/through", "/found/near", "/found/unnamed"};
    for (unsigned one = 0; one < sizeof made / sizeof *made; one++) CHECK(error_of(made[one]) == ENOENT);
    CHECK(error_of("/found/directory/below/deep") == ENOENT && error_of("/found/moved/below") == ENOENT);
    CHECK(close(open("/found/file", O_WRONLY | O_CREAT, 0644)) == 0 && error_of("/found/file") == 0);
    CHECK(link_error("/found/file") == EINVAL);
    CHECK(mkdir("/found/directory", 0755) == 0 && error_of("/found/directory") == 0 && error_of("/found/directory/below/deep") == ENOENT);
    CHECK(mkdir("/found/directory/below", 0755) == 0 && error_of("/found/directory/below/deep") == ENOENT);
    CHECK(close(creat("/found/directory/below/deep", 0644)) == 0 && error_of("/found/directory/below/deep") == 0);
    CHECK(symlink("directory", "/found/link") == 0 && error_of("/found/link") == 0 && error_of("/found/link/below/deep") == 0);
    CHECK(link_error("/found/link") == 0 && error_of("/found/link/none") == ENOENT);
    CHECK(close(creat("/found/directory/none", 0644)) == 0 && error_of("/found/link/none") == 0);
    CHECK(link("/found/file", "/found/hard") == 0 && error_of("/found/hard") == 0);
    CHECK(rename("/found/directory", "/found/moved") == 0 && error_of("/found/moved/below/deep") == 0);
    CHECK(error_of("/found/directory") == ENOENT && error_of("/found/directory/below") == ENOENT);
    CHECK(link_error("/found/directory") == ENOENT && link_error("/found/moved") == EINVAL);
    CHECK(mknod("/found/pipe", S_IFIFO | 0644, 0) == 0 && error_of("/found/pipe") == 0);
    /* By a link that leads nowhere, by a directory, and without a name at first. */
    CHECK(symlink("/found/through", "/found/leading") == 0 && error_of("/found/leading/x") == ENOENT);
    CHECK(close(creat("/found/leading", 0644)) == 0 && error_of("/found/through") == 0 && error_of("/found/leading") == 0);
    CHECK(chdir("/found/moved") == 0 && close(creat("../near", 0644)) == 0 && error_of("/found/near") == 0);
    int directory = open("/found", O_RDONLY | O_DIRECTORY), unnamed = open("/found", O_TMPFILE | O_RDWR, 0644);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", unnamed);
    CHECK(unnamed >= 0 && linkat(AT_FDCWD, path, directory, "unnamed", AT_SYMLINK_FOLLOW) == 0 && error_of("/found/unnamed") == 0);
    /* And taken away again. */
    CHECK(link_error("/found/hard") == EINVAL && unlink("/found/hard") == 0 && error_of("/found/hard") == ENOENT);
    CHECK(link_error("/found/moved/below") == EINVAL && unlinkat(directory, "moved/below/deep", 0) == 0);
    CHECK(unlinkat(directory, "moved/below", AT_REMOVEDIR) == 0 && link_error("/found/moved/below") == ENOENT);
    CHECK(link_error("/found/near") == EINVAL && rename("/found/link", "/found/near") == 0 && link_error("/found/near") == 0);
    CHECK(link_error("/found/pipe") == EINVAL && unlink("/found/pipe") == 0 && symlink("x", "/found/pipe") == 0 && link_error("/found/pipe") == 0);
    struct stat one, other;
    CHECK(mkdir("/found/one", 0755) == 0 && close(creat("/found/one/in", 0644)) == 0 && mkdir("/found/other", 0755) == 0);
    CHECK(error_of("/found/one/in") == 0 && error_of("/found/other/in") == ENOENT && link_error("/found/one/in") == EINVAL);
    CHECK(syscall(SYS_renameat2, AT_FDCWD, "/found/one", AT_FDCWD, "/found/other", 2 /* RENAME_EXCHANGE */) == 0);
    CHECK(error_of("/found/one/in") == ENOENT && error_of("/found/other/in") == 0);
    CHECK(stat("/found/other", &one) == 0 && stat("/found/other", &other) == 0 && same(&one, &other));
    struct { uint64_t flags, mode, resolve; } how = {O_WRONLY | O_CREAT, 0644, 0};
    CHECK(error_of("/found/how") == ENOENT && syscall(SYS_openat2, AT_FDCWD, "/found/how", &how, sizeof how) >= 0);
    CHECK(error_of("/found/how") == 0);
    /* What fails before the path is looked at. */
    char text[64];
    struct statx extended;
    CHECK(error_of("/found/none") == ENOENT && error_of("/found/one") == 0);
    CHECK(access("/found/none", 8) == -1 && errno == EINVAL);
    CHECK(fstatat(AT_FDCWD, "/found/none", &one, 0x8000) == -1 && errno == EINVAL);
    CHECK(statx(AT_FDCWD, "/found/none", 0, 0x80000000, &extended) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_faccessat2, AT_FDCWD, "/found/none", 0, 0x8000) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_readlink, "/found/none", text, 0) == -1 && errno == EINVAL);
    CHECK(close(open("/found/none", O_RDWR | O_CREAT, 0644)) == 0 && error_of("/found/none") == 0);
    CHECK(open("/found/none2", O_TMPFILE | O_RDWR, 0644) == -1 && errno == ENOENT);
    /* Paths that cannot be read, or go on where nothing is. */
    CHECK(readlink((char *)8, text, sizeof text) == -1 && errno == EFAULT && access((char *)8, F_OK) == -1 && errno == EFAULT);
    CHECK(open((char *)8, O_RDONLY) == -1 && errno == EFAULT && readlink(NULL, text, sizeof text) == -1 && errno == EFAULT);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(strcpy(pages + 4096 - 11, "/found/one") && error_of(pages + 4096 - 11) == 0 && link_error(pages + 4096 - 11) == EINVAL);
    CHECK(strcpy(pages + 4096 - 5, "/found/one") && error_of(pages + 4096 - 5) == 0 && link_error(pages + 4096 - 5) == EINVAL);
    CHECK(munmap(pages + 4096, 4096) == 0 && memcpy(pages + 4096 - 6, "/found", 6));
    CHECK(readlink(pages + 4096 - 6, text, sizeof text) == -1 && errno == EFAULT);
    /* The same paths are other ones to who has another root. */
    CHECK(mkdir("/found/root", 0755) == 0 && mkdir("/found/root/found", 0755) == 0 && link_error("/found/one") == EINVAL);
    CHECK(link_error("/found/absent") == ENOENT && close(creat("/found/root/found/absent", 0644)) == 0);
    fflush(stdout);
    if (fork() == 0) {
        where = "paths of another root";
        CHECK(chroot("/found/root") == 0 && error_of("/found/one") == ENOENT && error_of("/found/absent") == 0);
        CHECK(close(creat("/found/one", 0644)) == 0 && error_of("/found/one") == 0 && link_error("/found/one") == EINVAL);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    CHECK(error_of("/found/root/found/one") == 0 && error_of("/found/absent") == ENOENT);
    /* To who may not search a directory it tells nothing of what is in there. */
    CHECK(link_error("/root/nothing") == ENOENT);
    if (fork() == 0) {
        where = "paths of another user";
        CHECK(setresuid(1234, 1234, 1234) == 0 && link_error("/root/nothing") == EACCES && error_of("/root/nothing") == EACCES);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

/* Microseconds that each of many calls takes. */
static double cost(const char *path) {
    struct timespec begin, end;
    char text[64];
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int time = 0; time < 5000; time++) readlink(path, text, sizeof text);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((end.tv_sec - begin.tv_sec) * 1e9 + end.tv_nsec - begin.tv_nsec) / 5e6;
}

/* What is known is not asked for: that takes a fraction of the time. And what the kernel makes itself is never known. */
static void known(void) {
    CHECK(cost("/bin/") > 4 * cost("/bin") && cost("/bin/") > 4 * cost("/nothing/at/all"));
    int socket_of = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {AF_UNIX, "/socket"};
    CHECK(error_of("/socket") == ENOENT && bind(socket_of, (void *)&name, sizeof name) == 0);
    CHECK(access("/socket", F_OK) == 0 && link_error("/socket") == EINVAL);
}

/* One process makes names and takes them away; others are not to be told what was before. */
static void taking_turns(void) {
    int asked[2], told[2];
    char step, path[64];
    CHECK(pipe(asked) == 0 && pipe(told) == 0 && mkdir("/turns", 0755) == 0);
    fflush(stdout);
    if (fork() == 0) {
        for (int turn = 0; turn < 500 && read(asked[0], &step, 1) == 1; turn++) {
            snprintf(path, sizeof path, "/turns/%d", turn % 7);
            if (step == '+') close(creat(path, 0644));
            if (step == '-') unlink(path);
            write(told[1], "x", 1);
        }
        _exit(0);
    }
    static int is_there[7];
    for (int turn = 0; turn < 500; turn++) {
        int *there = &is_there[turn % 7];
        snprintf(path, sizeof path, "/turns/%d", turn % 7);
        for (int again = 0; again < 3; again++) CHECK(link_error(path) == (*there ? EINVAL : ENOENT));
        write(asked[1], *there ? "-" : "+", 1);
        read(told[0], &step, 1);
        *there = !*there;
        CHECK(link_error(path) == (*there ? EINVAL : ENOENT) && error_of(path) == (*there ? 0 : ENOENT));
    }
    wait(NULL);
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 1 && !strcmp(words[1], "above")) {
        where = "program that begins in a place";
        CHECK(!takes_shortcuts());
        above(AT_FDCWD);
        return 0;
    }
    if (count == 4 && !strcmp(words[2], "later")) {
        in_child("later", later);
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "outside")) {
        in_child("paths", paths);
        in_child("taking turns", taking_turns);
        in_child("known", known);
        where = "at the end";
        CHECK(takes_shortcuts());
        return 0;
    }
    if (count == 4 && !strcmp(words[1], "records")) {
        in_child("other user", other_user);
        in_child("other group", other_group);
        CHECK(found_switch(readlink));
        in_child("file called status", called_status);
        in_child("remembered", remembered);
        in_child(words[2], !strcmp(words[2], "pipe") ? others_pipe : owners);
        in_child("names", names);
        in_child("processes", processes);
        where = "at the end";
        CHECK(takes_shortcuts());
        return 0;
    }
    if (count == 2) {
        execl("/bin/shortcuts", "shortcuts", words[1], "again", NULL);
        return 1;
    }
    if (count == 3 && !strcmp(words[1], "records")) {
        execl("/bin/shortcuts", "shortcuts", words[1], words[2], "again", NULL);
        return 1;
    }
    if (count == 3) {
        /* A library that one program uses gets no copy. */
        if (takes_shortcuts()) puts("first: takes shortcuts");
        execl("/bin/shortcuts", "shortcuts", words[1], words[2], "again", NULL);
        return 1;
    }
    secret = words[1], outsider = words[2];
    in_child("barriers", barriers);
    in_child("directories", directories);
    in_child("links", links);
    in_child("sent directory", sent_directory);
    in_child("working directory", working_directory);
    in_child("descriptor", descriptor);
    in_child("descriptor by a link", descriptor_by_link);
    in_child("other user", other_user);
    in_child("other group", other_group);
    in_child("other root", other_root);
    in_child("fenced", fenced);
    where = "at the end";
    CHECK(takes_shortcuts());
    barriers();
    return 0;
}
