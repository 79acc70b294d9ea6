// Does one thing many times. Arguments: what, how often.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments) {
    struct stat status;
    const char *what = count > 1 ? arguments[1] : "";
    int times = count > 2 ? atoi(arguments[2]) : 0;
    if (!strcmp(what, "relative"))
        chdir("/usr");
    for (int round = 0; round < times; round++) {
        if (!strcmp(what, "fork")) {
            pid_t child = fork();
            if (!child) {
                execl("/bin/true", "true", NULL);
                _exit(1);
            }
            waitpid(child, NULL, 0);
        } else {
            stat(!strcmp(what, "relative") ? "bin/env" : !strcmp(what, "proc") ? "/proc/self/status" : "/usr/bin/env", &status);
        }
    }
}
