// What the kernels share: a vector as wide as the processor's registers, sums in a fixed order,
// scratch memory, and transposed matrices.
//
// A kernel gives the same bytes on every processor. So each output is one chain of additions, or a
// fixed number of them, whatever V and the number of threads are; a multiply-add that rounds once
// is said by fma(); and it is compiled such that nothing else is fused or put in another order (see
// runtime.py).
//
// It has no test program of its own; those of the other headers use it. Jittor compiles as C++14,
// and is given this text in place of the line that includes it (see call.py). Jittor puts
// definitions of its own after the last include of all, so one that stands under a condition must
// come first.
//
// All names are in an unnamed namespace: Jittor loads every kernel as a library of its own, and
// none is to take a function from another.
#ifndef KERNELS_VECTOR_H
#define KERNELS_VECTOR_H

#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

namespace kernels {
namespace {

// V floats fill one register of the processor that this is compiled for, which has REGISTERS.
#if defined(__AVX512F__)
constexpr int V = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int V = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int V = 4, REGISTERS = 32;
#else
constexpr int V = 4, REGISTERS = 16;
#endif
typedef float vec __attribute__((vector_size(4 * V)));
typedef float unaligned __attribute__((vector_size(4 * V), aligned(4), may_alias));
typedef int indices __attribute__((vector_size(4 * V)));

inline vec load(const float* p) { return *(const unaligned*)p; }
inline void store(float* p, vec v) { *(unaligned*)p = v; }
inline vec all(float value) { return value - vec{}; }  // less 0 and not plus 0, which turns -0 to 0

// a * b + c, rounded once. By name, since compilers choose for themselves where to fuse the two:
// gcc fuses less where it tunes for AMD. A processor that cannot do it is slow here, and right.
inline vec fma(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    for (int i = 0; i < V; i++) c[i] = std::fma(a[i], b[i], c[i]);
    return c;
#endif
}

// By value: std::min would want the address of sizes that are known when this is compiled.
constexpr long least(long a, long b) { return a < b ? a : b; }
constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr long round_up(long a, long b) { return (a + b - 1) / b * b; }

// Elements of a (0 to V - 1) and of b (V to 2 V - 1). Clang lacks gcc's function for it.
inline vec shuffle(vec a, vec b, indices which) {
#ifdef __clang__
    vec out;
    for (int i = 0; i < V; i++) out[i] = which[i] < V ? a[which[i]] : b[which[i] - V];
    return out;
#else
    return __builtin_shuffle(a, b, which);
#endif
}

// The sums of a and of a * b over `count` elements: LANES of each, element i in lane i % LANES,
// of which the upper half is then added to the lower, until one is left.
constexpr int LANES = 16;

struct TwoSums {
    float first, product;

    TwoSums(const float* a, const float* b, long count) {
        vec firsts[PARTS] = {}, products[PARTS] = {};
        long i = 0;
        for (; i + LANES <= count; i += LANES) add(a + i, b + i, firsts, products);
        if (i < count) {
            vec rest_a[PARTS], rest_b[PARTS];
            #pragma GCC unroll 4
            for (int v = 0; v < PARTS; v++) {
                rest_a[v] = up_to(a, i + v * V, count);
                rest_b[v] = a == b ? rest_a[v] : up_to(b, i + v * V, count);
            }
            #pragma GCC unroll 4
            for (int v = 0; v < PARTS; v++) {
                firsts[v] += rest_a[v];
                products[v] = fma(rest_a[v], rest_b[v], products[v]);
            }
        }
        first = total(firsts);
        product = total(products);
    }

   private:
    static constexpr int PARTS = LANES / V;

    // Elements i to i + V - 1 of `count`, with 0 for those after the last, which it does not read.
    // By a shuffle, since to copy the rest to memory and to load it from there would take longer
    // than all the other sums of a small plane.
    static vec up_to(const float* a, long i, long count) {
        vec some{};
        if (count < V) {
            for (long l = i; l < count; l++) some[l - i] = a[l];
            return some;
        }
        const long from = least(i, count - V);  // V elements from there on are all of a's
        indices which;
        for (int l = 0; l < V; l++) which[l] = l;
        return shuffle(load(a + from), some, which + (int)least(i - from, V));
    }

    static float total(const vec (&sums)[PARTS]) {
        float lanes[LANES];
        for (int v = 0; v < PARTS; v++) store(lanes + v * V, sums[v]);
        #pragma GCC unroll 4
        for (int half = LANES / 2; half > 0; half /= 2)
            #pragma GCC unroll 8
            for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
        return lanes[0];
    }

    static void add(const float* a, const float* b, vec (&firsts)[PARTS], vec (&products)[PARTS]) {
        #pragma GCC unroll 4
        for (int v = 0; v < PARTS; v++) {
            const vec x = load(a + v * V);
            firsts[v] += x;
            products[v] = fma(x, load(b + v * V), products[v]);
        }
    }
};

inline void clear(float* p, size_t count) { memset(p, 0, count * sizeof(float)); }
inline void copy(float* to, const float* from, size_t count) {
    memcpy(to, from, count * sizeof(float));
}

// Memory of one thread for `count` items, kept from call to call: fresh pages cost more than the
// work on them. What it holds at first is anything. One function may use one `id` once.
template <int id, class Item = float>
Item* scratch(size_t count) {
    static thread_local std::vector<Item> memory;
    if (memory.size() < count + V) memory.assign(count + V, Item());
    return (Item*)(((size_t)memory.data() + 4 * V - 1) / (4 * V) * (4 * V));
}

// dy where ReLU let it through (its output y is positive), else 0. `room` takes the result.
inline const float* through_relu(const float* dy, const float* y, size_t count, float* room) {
    for (size_t i = 0; i < count; i++) room[i] = y[i] > 0 ? dy[i] : 0.f;
    return room;
}

// out[c][r] = in[r][c] for V rows of V columns, by log2(V) rounds that interleave the two halves.
// A row of `in` begins `in_row` floats after the one before it, one of `out` `out_row` floats.
inline void turn_square(const float* in, long in_row, float* out, long out_row) {
    indices low, high;
    for (int i = 0; i < V; i++) {
        low[i] = i / 2 + i % 2 * V;
        high[i] = low[i] + V / 2;
    }
    vec now[V], next[V];
    #pragma GCC unroll 16
    for (int i = 0; i < V; i++) now[i] = load(in + i * in_row);
    #pragma GCC unroll 4
    for (int round = 1; round < V; round *= 2) {
        #pragma GCC unroll 8
        for (int i = 0; i < V / 2; i++) {
            next[2 * i] = shuffle(now[i], now[i + V / 2], low);
            next[2 * i + 1] = shuffle(now[i], now[i + V / 2], high);
        }
        #pragma GCC unroll 16
        for (int i = 0; i < V; i++) now[i] = next[i];
    }
    #pragma GCC unroll 16
    for (int i = 0; i < V; i++) store(out + i * out_row, now[i]);
}

// The same for any number of rows and columns; the last squares overlap those before them.
inline void turn(const float* in, long in_row, long rows, long columns, float* out, long out_row) {
    if (rows < V || columns < V) {
        for (long c = 0; c < columns; c++)
            for (long r = 0; r < rows; r++) out[c * out_row + r] = in[r * in_row + c];
        return;
    }
    for (long r = 0; r < rows; r += V)
        for (long c = 0; c < columns; c += V) {
            const long row = least(r, rows - V), column = least(c, columns - V);
            turn_square(in + row * in_row + column, in_row, out + column * out_row + row, out_row);
        }
}

}  // namespace
}  // namespace kernels

#endif  // KERNELS_VECTOR_H
