// What the test programs share: arrays of numbers, and a comparison that says what differs.
#ifndef TESTS_KERNELS_CHECK_H
#define TESTS_KERNELS_CHECK_H

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace check {

typedef std::vector<float> Floats;

// What a kernel must overwrite: large enough to stand out where it does not.
constexpr float UNWRITTEN = 1e9f;

inline int& failures() {
    static int count = 0;
    return count;
}

inline char* shape_text() {
    static char text[200];
    return text;
}

// Names the shape that is compared from here on, as printf would write it.
__attribute__((format(printf, 1, 2))) inline void shape(const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(shape_text(), 200, format, values);
    va_end(values);
}

// `count` numbers from `low` to `high`, the same on every processor, others at every call.
inline Floats numbers(size_t count, float low = -1, float high = 1) {
    static unsigned state = 1;
    Floats result(count);
    for (float& value : result) {
        state = state * 1664525u + 1013904223u;
        value = low + (high - low) * (state >> 8) / 16777216.f;
    }
    return result;
}

// FNV-1a of the bytes of an array, on a processor that is little-endian as all of ours are.
inline uint64_t digest(const Floats& array) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (float value : array) {
        unsigned char bytes[sizeof value];
        memcpy(bytes, &value, sizeof value);
        for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
    }
    return hash;
}

inline Floats unwritten(size_t count) { return Floats(count, UNWRITTEN); }

// Prints the digest of `fast`, which is to be the same for every target and number of threads.
// Counts and prints a failure where the two differ by more than `tolerance` of the largest value.
inline void same(const char* name, const Floats& plain, const Floats& fast,
                 double tolerance = 2e-5) {
    printf("%s: %s %016llx\n", shape_text(), name, (unsigned long long)digest(fast));
    double largest = 1e-3, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < plain.size(); i++) {
        const double difference = std::fabs((double)plain[i] - fast[i]);
        largest = std::fmax(largest, std::fabs(plain[i]));
        if (difference > worst) worst = difference, at = i;
    }
    if (plain.size() == fast.size() && worst <= tolerance * largest) return;
    failures()++;
    printf("%s: %s[%zu] of %zu is %.9g by the plain loop, %.9g by the kernel (of %zu)\n",
           shape_text(), name, at, plain.size(), plain.empty() ? 0. : plain[at],
           at < fast.size() ? fast[at] : 0., fast.size());
}

// What main() returns.
inline int result() {
    printf(failures() ? "%d arrays differ\n" : "all is the same\n", failures());
    return failures() != 0;
}

}  // namespace check

#endif  // TESTS_KERNELS_CHECK_H
