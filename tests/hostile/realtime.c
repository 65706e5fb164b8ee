/* Moves CLOCK_REALTIME of a process and of all that it starts. realtime.py compiles this and names it in LD_PRELOAD.
 *
 * HOSTILE_REALTIME names a file that holds the offset, a signed number of nanoseconds. All processes map it and see a
 * new offset at once. The kernel's own clock stays, so waits until a moment of CLOCK_REALTIME are moved back.
 * Our servers are started with an environment of their own, so execve puts the two variables back into it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const volatile int64_t none, *offset = &none;
static char *kept[2];
static int (*real_execve)(const char *, char *const[], char *const[]);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOSTILE_REALTIME"), *preload = getenv("LD_PRELOAD");
    int file = path && preload ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED || asprintf(&kept[0], "LD_PRELOAD=%s", preload) < 0 ||
        asprintf(&kept[1], "HOSTILE_REALTIME=%s", path) < 0)
        dprintf(2, "realtime.c: cannot read the offset in %s\n", path ? path : "(HOSTILE_REALTIME)"), _exit(126);
    close(file), offset = page, real_execve = REAL(execve);
}

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t ns = at.tv_sec * SECOND + at.tv_nsec + by, rest = (ns % SECOND + SECOND) % SECOND;
    return (struct timespec){(ns - rest) / SECOND, rest};
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(clock_gettime);
    int result = real(clock, at);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *at = moved(*at, *offset);
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) { /* nobody has used the zone since 1990 */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return (void)zone, 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return at ? *at = now.tv_sec : now.tv_sec;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    struct timespec real = moved(*until, clock == CLOCK_REALTIME && flags & TIMER_ABSTIME ? -*offset : 0);
    return REAL(clock_nanosleep)(clock, flags, &real, left);
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    struct timespec real = moved(*until, clock == CLOCK_REALTIME ? -*offset : 0);
    return REAL(sem_clockwait)(semaphore, clock, &real);
}

int execve(const char *path, char *const argv[], char *const variables[]) {
    size_t count = 0, has_clock = 0; /* one of another clock, with its library, is left as it is */
    for (; variables && variables[count]; count++) has_clock |= !strncmp(variables[count], "HOSTILE_REALTIME=", 17);
    char *all[count + 3];
    memcpy(all, kept, sizeof kept), memcpy(all + 2, variables, count * sizeof *all), all[count + 2] = NULL;
    return real_execve(path, argv, has_clock ? all + 2 : all);
}
