/* Make statvfs slow for the mounts below one folder, as a file server under load does.
 *
 * LD_PRELOAD this; a call for a path below SLOW_STATVFS_UNDER takes SLOW_STATVFS_MS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void wait_for(const char *path)
{
    const char *folder = getenv("SLOW_STATVFS_UNDER"), *slow = getenv("SLOW_STATVFS_MS");
    if (folder && slow && !strncmp(path, folder, strlen(folder)))
        usleep(1000 * (useconds_t)atoi(slow));
}

int statvfs(const char *path, struct statvfs *answer)
{
    int (*original)(const char *, struct statvfs *) = dlsym(RTLD_NEXT, "statvfs");
    wait_for(path);
    return original(path, answer);
}

int statvfs64(const char *path, struct statvfs64 *answer)
{
    int (*original)(const char *, struct statvfs64 *) = dlsym(RTLD_NEXT, "statvfs64");
    wait_for(path);
    return original(path, answer);
}
