/* Make reads of one file slow, as a driver does that answers /sys from its firmware.
 *
 * LD_PRELOAD this; a read of a file whose path ends in SLOW_READ_SUFFIX takes SLOW_READ_MS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t read(int descriptor, void *buffer, size_t size)
{
    static ssize_t (*original)(int, void *, size_t);
    const char *suffix = getenv("SLOW_READ_SUFFIX"), *slow = getenv("SLOW_READ_MS");
    if (!original)
        original = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (suffix && slow) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = readlink(link, path, sizeof path);
        size_t wanted = strlen(suffix);
        if (length >= (ssize_t)wanted && !memcmp(path + length - wanted, suffix, wanted))
            usleep(1000 * (useconds_t)atoi(slow));
    }
    return original(descriptor, buffer, size);
}
