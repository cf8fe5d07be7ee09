/* Counts the calls that change a file beneath a folder, in front of the C library: what Python, safetensors and tokenizers
   write all comes by here. At one of them it kills, before it or, of a write, once half of it is written; or it stops the
   process at every one, both before and half way, for a parent that looks at the folder and lets it go on.

   cc -shared -fPIC -o file_events.so file_events.c -ldl; LD_PRELOAD=./file_events.so python ...

   A process that was launched with a RANK is told by its environment: FILE_EVENTS_FOLDER, the folder; FILE_EVENTS_NOTES,
   a folder for its process id, and at its end the number of its events; FILE_EVENTS_OF, the rank whose events count;
   FILE_EVENTS_AT and FILE_EVENTS_TORN, which of them; FILE_EVENTS_KILLS, the rank that is killed there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char beneath[4096], notes[4096];
static long due = -1, seen = 0;
static int torn = 0, stops = 0, rank = -1, kills = -1;
static pid_t armed = 0; /* a child that this process forks does not count */

static void arm(const char *folder, long number, int half, int at_all) {
    snprintf(beneath, sizeof beneath, "%s", folder);
    due = number, torn = half, stops = at_all, seen = 0, armed = getpid();
}

/* Counts from 0 again; kills at call number `number`, never where it is below 0. */
void file_events_arm(const char *folder, long number, int half) { arm(folder, number, half, 0); }

/* Stops at every call. */
void file_events_stop(const char *folder) { arm(folder, -1, 0, 1); }

long file_events_seen(void) { return seen; }

static long number_of(const char *name) { const char *value = getenv(name); return value ? atol(value) : -1; }

static FILE *note_of(const char *what, int of, const char *how) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s-%d", notes, what, of);
    return fopen(path, how);
}

__attribute__((constructor)) static void arm_from_environment(void) {
    if (!getenv("FILE_EVENTS_NOTES") || !getenv("RANK")) return;
    snprintf(notes, sizeof notes, "%s", getenv("FILE_EVENTS_NOTES"));
    rank = number_of("RANK"), kills = number_of("FILE_EVENTS_KILLS");
    FILE *note = note_of("pid", rank, "wx");
    if (!note) { rank = -1; return; } /* what the process of this rank started */
    fprintf(note, "%d", getpid());
    fclose(note);
    long number = rank == number_of("FILE_EVENTS_OF") ? number_of("FILE_EVENTS_AT") : -1;
    arm(getenv("FILE_EVENTS_FOLDER"), number, number_of("FILE_EVENTS_TORN") == 1, 0);
}

__attribute__((destructor)) static void note_events(void) {
    if (rank < 0 || armed != getpid()) return;
    FILE *note = note_of("seen", rank, "w");
    fprintf(note, "%ld", seen);
    fclose(note);
}

/* Kills this process, or the one of the rank that is meant. */
static void die(void) {
    int other = 0;
    if (rank >= 0 && kills != rank) {
        FILE *note = note_of("pid", kills, "r");
        if (fscanf(note, "%d", &other) != 1) abort();
        fclose(note);
    }
    kill(other ? other : getpid(), SIGKILL);
    while (!other) pause();
}

static int lies_beneath(int folder, const char *path) {
    char place[4096], whole[8192];
    if (path && path[0] == '/') return strncmp(path, beneath, strlen(beneath)) == 0;
    if (folder == AT_FDCWD) {
        if (!getcwd(place, sizeof place)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, place, sizeof place - 1);
        if (length < 0) return 0;
        place[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", place, path ? path : "");
    return strncmp(whole, beneath, strlen(beneath)) == 0;
}

/* Whether this call is to be torn; a call before which to die does not come back. */
static int event(int folder, const char *path, int can_be_torn) {
    if (armed != getpid() || !lies_beneath(folder, path)) return 0;
    long number = __sync_fetch_and_add(&seen, 1);
    if (stops) { raise(SIGSTOP); return can_be_torn; }
    if (number != due) return 0;
    if (torn && can_be_torn) return 1;
    die();
    return 0;
}

static void half_way(void) { if (stops) raise(SIGSTOP); else die(); }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int changes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (changes(flags)) event(AT_FDCWD, path, 0);
    return NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (changes(flags)) event(AT_FDCWD, path, 0);
    return NEXT(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (changes(flags)) event(folder, path, 0);
    return NEXT(openat)(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (changes(flags)) event(folder, path, 0);
    return NEXT(openat64)(folder, path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t count) {
    size_t half = 0;
    if (file > 2 && event(file, NULL, count > 1)) { NEXT(write)(file, bytes, half = count / 2); half_way(); }
    return half + NEXT(write)(file, (const char *)bytes + half, count - half);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t place) {
    size_t half = 0;
    if (event(file, NULL, count > 1)) { NEXT(pwrite64)(file, bytes, half = count / 2, place); half_way(); }
    return half + NEXT(pwrite64)(file, (const char *)bytes + half, count - half, place + half);
}

ssize_t writev(int file, const struct iovec *parts, int count) { event(file, NULL, 0); return NEXT(writev)(file, parts, count); }
ssize_t sendfile64(int to, int from, off_t *place, size_t count) { event(to, NULL, 0); return NEXT(sendfile64)(to, from, place, count); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t count, unsigned flags) {
    event(to, NULL, 0);
    return NEXT(copy_file_range)(from, a, to, b, count, flags);
}
int creat64(const char *path, mode_t mode) { event(AT_FDCWD, path, 0); return NEXT(creat64)(path, mode); }
int link(const char *from, const char *to) { event(AT_FDCWD, to, 0); return NEXT(link)(from, to); }
int symlink(const char *from, const char *to) { event(AT_FDCWD, to, 0); return NEXT(symlink)(from, to); }
int fsync(int file) { event(file, NULL, 0); return NEXT(fsync)(file); }
int ftruncate64(int file, off_t length) { event(file, NULL, 0); return NEXT(ftruncate64)(file, length); }
int rename(const char *from, const char *to) { event(AT_FDCWD, to, 0); return NEXT(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { event(b, to, 0); return NEXT(renameat)(a, from, b, to); }
int mkdir(const char *path, mode_t mode) { event(AT_FDCWD, path, 0); return NEXT(mkdir)(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { event(folder, path, 0); return NEXT(mkdirat)(folder, path, mode); }
int unlink(const char *path) { event(AT_FDCWD, path, 0); return NEXT(unlink)(path); }
int unlinkat(int folder, const char *path, int flags) { event(folder, path, 0); return NEXT(unlinkat)(folder, path, flags); }
int rmdir(const char *path) { event(AT_FDCWD, path, 0); return NEXT(rmdir)(path); }
