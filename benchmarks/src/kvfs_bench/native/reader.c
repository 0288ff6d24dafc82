/* The compiled reader: opens, reads, sums and closes every file below a directory.

       reader walk ROOT READERS          each directory in its own order
       reader list ROOT READERS PATHS    the files named in PATHS (each ended by NUL), in order

   READERS processes share the work: the entries of ROOT, or the paths, are dealt out among them.
   All start at once, when each is ready.  It prints one line of JSON like readers/plain.py.

   The sum of a file is that of its little-endian 64-bit words modulo 2^64 - 1, the last one filled
   with zeros: cheap enough not to hide what the file system costs (below 0.1 ns a byte).  The
   digest over all files is that of readers/words.py. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (128 << 10)
#define READERS_MAX 256
#define PATH_BYTES 8192

struct found {
    uint64_t files, bytes, digest;
    double ended_s;
};

static unsigned char buffer[BUFFER_BYTES] __attribute__((aligned(64)));
static struct found *mine;
static size_t root_length;

static void die(const char *what)
{
    fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* a + b modulo 2^64 - 1, where 0 has two forms until canonical(). */
static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;
    return sum + (sum < a);
}

static uint64_t canonical(uint64_t sum)
{
    return sum == UINT64_MAX ? 0 : sum;
}

/* Sum of the words of buffer[0 .. size), which is filled with zeros to a whole word. */
static uint64_t sum_words(size_t size)
{
    const uint64_t *words = (const uint64_t *)buffer;
    size_t count = (size + 7) / 8;
    uint64_t low = 0, high = 0; /* halves of words: no carry is lost, and compilers use SIMD */

    memset(buffer + size, 0, count * 8 - size);
    for (size_t i = 0; i < count; i++) {
        low += (uint32_t)words[i];
        high += words[i] >> 32;
    }
    return add(low, add(high << 32, high >> 32));
}

static uint64_t mix(uint64_t x) /* splitmix64's finalizer */
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint64_t digest_of(const char *name, uint64_t sum)
{
    size_t length = strlen(name);
    uint64_t of_name = 0;

    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, name + at, length - at < 8 ? length - at : 8);
        of_name = add(of_name, word);
    }
    return mix(canonical(sum) + mix(canonical(of_name)));
}

/* Read one file to its end. */
static void read_file(int directory, const char *name, const char *path)
{
    uint64_t sum = 0, total = 0;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    for (;;) {
        ssize_t size = read(fd, buffer, BUFFER_BYTES);
        if (size < 0)
            die(path);
        /* Whole words but at the end: a short read is the end of a regular file. */
        sum = add(sum, sum_words((size_t)size));
        total += (uint64_t)size;
        if (size < BUFFER_BYTES)
            break;
    }
    close(fd);
    mine->files++;
    mine->bytes += total;
    mine->digest += digest_of(path + root_length + 1, sum);
}

static int is_directory(int directory, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    if (fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
        die(entry->d_name);
    return S_ISDIR(st.st_mode);
}

/* Files first, as they are listed, then the directories in it.  Of the root only what is dealt to
   reader `own` of `readers`. */
static void walk(char *path, size_t length, unsigned own, unsigned readers)
{
    char *pending = NULL;
    size_t used = 0, room = 0;
    unsigned number = 0;
    struct dirent *entry;
    DIR *stream = opendir(path);

    if (!stream)
        die(path);
    while ((errno = 0, entry = readdir(stream))) {
        size_t size = strlen(entry->d_name) + 1;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (number++ % readers != own)
            continue;
        if (length + 1 + size > PATH_BYTES)
            errno = ENAMETOOLONG, die(path);
        if (is_directory(dirfd(stream), entry)) {
            if (used + size > room && !(pending = realloc(pending, room = 2 * (used + size))))
                die("memory");
            memcpy(pending + used, entry->d_name, size);
            used += size;
        } else {
            path[length] = '/';
            memcpy(path + length + 1, entry->d_name, size);
            read_file(dirfd(stream), entry->d_name, path);
            path[length] = 0;
        }
    }
    if (errno)
        die(path);
    closedir(stream);
    for (size_t at = 0; at < used;) {
        size_t size = strlen(pending + at);
        path[length] = '/';
        memcpy(path + length + 1, pending + at, size + 1);
        walk(path, length + 1 + size, 0, 1);
        path[length] = 0;
        at += size + 1;
    }
    free(pending);
}

static void list(const char *root, const char *names, size_t size, unsigned own, unsigned readers)
{
    static char path[PATH_BYTES];
    unsigned number = 0;
    memcpy(path, root, root_length);
    path[root_length] = '/';
    for (size_t at = 0; at < size;) {
        size_t length = strlen(names + at);
        if (number++ % readers == own) {
            if (root_length + length + 2 > PATH_BYTES)
                errno = ENAMETOOLONG, die(names + at);
            memcpy(path + root_length + 1, names + at, length + 1);
            read_file(AT_FDCWD, path, path);
        }
        at += length + 1;
    }
}

static const char *load(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        die(path);
    *size = (size_t)st.st_size;
    void *map = mmap(NULL, *size + 1, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED)
        die(path);
    close(fd);
    return map;
}

static void child(char **argv, unsigned own, unsigned readers, const int ready[2], const int go[2])
{
    static char path[PATH_BYTES];
    char byte = 0;
    size_t size = 0;
    const char *names = argv[4] ? load(argv[4], &size) : NULL;

    close(go[1]);
    if (write(ready[1], &byte, 1) != 1)
        die("start");
    close(ready[1]); /* or the parent would wait for one that failed */
    if (read(go[0], &byte, 1) != 0)
        die("start");
    if (names)
        list(argv[2], names, size, own, readers);
    else
        walk(strcpy(path, argv[2]), root_length, own, readers);
    mine->ended_s = now_s();
    exit(0);
}

int main(int argc, char **argv)
{
    int ready[2], go[2], status;
    unsigned readers = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    struct found total = {0};
    struct rusage usage;
    char byte;

    if (argc != (argc > 1 && !strcmp(argv[1], "list") ? 5 : 4) || !readers ||
        readers > READERS_MAX || (root_length = strlen(argv[2])) >= PATH_BYTES) {
        fprintf(stderr, "usage: reader walk ROOT READERS | reader list ROOT READERS PATHS\n");
        return 2;
    }
    struct found *all = mmap(NULL, readers * sizeof *all, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || pipe(ready) || pipe(go))
        die("start");
    for (unsigned own = 0; own < readers; own++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        mine = &all[own];
        if (!pid)
            child(argv, own, readers, ready, go);
    }
    close(ready[1]);
    for (unsigned own = 0; own < readers; own++)
        if (read(ready[0], &byte, 1) != 1)
            die("a reader ended early");
    double start = now_s();
    close(go[1]); /* the end of file starts all of them */
    for (unsigned own = 0; own < readers; own++)
        if (wait(&status) < 0 || status)
            return 1;
    for (unsigned own = 0; own < readers; own++) {
        total.files += all[own].files;
        total.bytes += all[own].bytes;
        total.digest += all[own].digest;
        if (all[own].ended_s > total.ended_s)
            total.ended_s = all[own].ended_s;
    }
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("{\"files\": %llu, \"bytes\": %llu, \"digest\": %llu, \"wall_s\": %.9f, "
           "\"user_s\": %.6f, \"system_s\": %.6f}\n",
           (unsigned long long)total.files, (unsigned long long)total.bytes,
           (unsigned long long)total.digest, total.ended_s - start,
           (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6,
           (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6);
    return 0;
}
