// A library to be preloaded: it counts what a process does to files beneath a folder, and makes the
// n-th such operation fail, or kills the process there.
//
// Counted are the creation and truncation of files, writes, fsync, rename, chmod, unlink, mkdir and
// rmdir, whoever calls them: Python, torch or the C++ library. A kill at a write lets half of its
// bytes through first, as a kernel may.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE = 0, KILL = -1, TERM = -2 };  // above 0: an errno

static char folder[PATH_MAX];
static size_t folder_length;
static int deed;
static long moment;
static long* count;  // shared with the processes that are forked

__attribute__((constructor)) static void begin(void) {
  count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (count == MAP_FAILED) abort();
}

void faults_arm(const char* beneath, int what, long at) {
  snprintf(folder, sizeof folder, "%s", beneath);
  folder_length = strlen(folder);
  deed = what;
  moment = at;
  *count = 0;
}

long faults_count(void) { return *count; }

static int counts(const char* path) {
  return folder_length && path && strncmp(path, folder, folder_length) == 0;
}

static int counts_open(int descriptor) {
  if (!folder_length) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return counts(path);
}

static int counts_at(int descriptor, const char* path) {
  return path && path[0] == '/' ? counts(path) : counts_open(descriptor);
}

// Whether this operation is to fail, with errno set. needs_space: a full disk refuses it, and goes
// on refusing such operations.
static int fails(int needs_space) {
  const long number = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
  if (deed == ENOSPC) {
    if (number < moment || !needs_space) return 0;
  } else if (number != moment) {
    return 0;
  }
  if (deed == KILL) kill(getpid(), SIGKILL);
  if (deed == TERM) kill(getpid(), SIGTERM);
  if (deed <= 0) return 0;
  errno = deed;
  return 1;
}

static int dies_now(void) {
  return deed == KILL && __atomic_load_n(count, __ATOMIC_SEQ_CST) + 1 == moment;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(condition, space) if ((condition) && fails(space)) return -1

ssize_t write(int descriptor, const void* bytes, size_t size) {
  if (counts_open(descriptor)) {
    if (dies_now() && NEXT(write)(descriptor, bytes, size / 2) < 0) abort();
    if (fails(1)) return -1;
  }
  return NEXT(write)(descriptor, bytes, size);
}

ssize_t writev(int descriptor, const struct iovec* parts, int number) {
  FAIL_IF(counts_open(descriptor), 1);
  return NEXT(writev)(descriptor, parts, number);
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  FAIL_IF(counts_open(descriptor), 1);
  return NEXT(pwrite)(descriptor, bytes, size, offset);
}

ssize_t pwrite64(int descriptor, const void* bytes, size_t size, off64_t offset) {
  FAIL_IF(counts_open(descriptor), 1);
  return NEXT(pwrite64)(descriptor, bytes, size, offset);
}

int fsync(int descriptor) {
  FAIL_IF(counts_open(descriptor), 0);
  return NEXT(fsync)(descriptor);
}

int fdatasync(int descriptor) {
  FAIL_IF(counts_open(descriptor), 0);
  return NEXT(fdatasync)(descriptor);
}

int ftruncate(int descriptor, off_t size) {
  FAIL_IF(counts_open(descriptor), 1);
  return NEXT(ftruncate)(descriptor, size);
}

int ftruncate64(int descriptor, off64_t size) {
  FAIL_IF(counts_open(descriptor), 1);
  return NEXT(ftruncate64)(descriptor, size);
}

int rename(const char* from, const char* to) {
  FAIL_IF(counts(to), 1);
  return NEXT(rename)(from, to);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  FAIL_IF(counts_at(to_folder, to), 1);
  return NEXT(renameat)(from_folder, from, to_folder, to);
}

int unlink(const char* path) {
  FAIL_IF(counts(path), 0);
  return NEXT(unlink)(path);
}

int unlinkat(int descriptor, const char* path, int flags) {
  FAIL_IF(counts_at(descriptor, path), 0);
  return NEXT(unlinkat)(descriptor, path, flags);
}

int rmdir(const char* path) {
  FAIL_IF(counts(path), 0);
  return NEXT(rmdir)(path);
}

int mkdir(const char* path, mode_t mode) {
  FAIL_IF(counts(path), 1);
  return NEXT(mkdir)(path, mode);
}

int chmod(const char* path, mode_t mode) {
  FAIL_IF(counts(path), 0);
  return NEXT(chmod)(path, mode);
}

#define OPEN(name)                                                       \
  int name(const char* path, int flags, ...) {                           \
    va_list rest;                                                        \
    va_start(rest, flags);                                               \
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;      \
    va_end(rest);                                                        \
    FAIL_IF(flags & (O_CREAT | O_TRUNC) && counts(path), 1);             \
    return NEXT(name)(path, flags, mode);                                \
  }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                      \
  FILE* name(const char* path, const char* mode) {                       \
    if (mode[0] != 'r' && counts(path) && fails(1)) return NULL;         \
    return NEXT(name)(path, mode);                                       \
  }
FOPEN(fopen)
FOPEN(fopen64)
