// Preloaded into replica-apply: syncfs fails as a broken disk makes it, while the file that FAIL_SYNCFS names exists.
#include <cerrno>
#include <cstdlib>
#include <dlfcn.h>
#include <unistd.h>

extern "C" int syncfs(int fd) noexcept {
    const char *order = getenv("FAIL_SYNCFS");
    if (order && access(order, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "syncfs"))(fd);
}
