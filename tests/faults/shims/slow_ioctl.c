/* Make the ioctls of network interfaces slow, as a driver does that waits for its firmware.
 *
 * LD_PRELOAD this; SLOW_IOCTL_MS is how long each SIOCETHTOOL, SIOCGIFFLAGS and SIOCGIFMTU takes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

int ioctl(int descriptor, unsigned long request, ...)
{
    static int (*original)(int, unsigned long, ...);
    const char *slow = getenv("SLOW_IOCTL_MS");
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (!original)
        original = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    if (slow && (request == SIOCETHTOOL || request == SIOCGIFFLAGS || request == SIOCGIFMTU))
        usleep(1000 * (useconds_t)atoi(slow));
    return original(descriptor, request, argument);
}
