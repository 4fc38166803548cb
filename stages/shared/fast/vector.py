"""What the fast kernels share: a vector type, a small matrix product and the test for their use."""

from __future__ import annotations

from stages.shared.runtime import jt

HEADER = """
#include <algorithm>
#include <cstring>
#include <vector>
#include <omp.h>
namespace {
// As wide as a register of the processor that this is compiled on; REGISTERS of them are at hand.
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

inline vec load(const float* p) { return *(const unaligned*)p; }
inline void store(float* p, vec v) { *(unaligned*)p = v; }
constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// ROWS x COLS sums of a vector each fill the registers and leave room for the operands.
constexpr int ROWS = REGISTERS == 32 ? 8 : 4, COLS = 3;

// Memory of one thread, kept from call to call: fresh pages cost more than the work on them.
template <int id> float* scratch(size_t n) {
    static thread_local std::vector<float> memory;
    if (memory.size() < n + V) memory.assign(n + V, 0.f);
    return (float*)(((size_t)memory.data() + 4 * V - 1) / (4 * V) * (4 * V));
}

// out[r][p] = sum over c < C and t < T of a[c][t][r] * x[c * step + taps[t] + p], for ROWS rows r
// and n vectors of positions p. It reads x up to the end of the last vector.
template <int n>
inline void sums(const float* x, long step, int C, const int* taps, int T, const float* a,
                 float* out, long out_step) {
    vec acc[ROWS][n];
    #pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) acc[r][v] = vec{};
    for (int c = 0; c < C; c++, x += step)
        for (int t = 0; t < T; t++, a += ROWS) {
            const float* at = x + taps[t];
            vec xv[n];
            #pragma GCC unroll 4
            for (int v = 0; v < n; v++) xv[v] = load(at + v * V);
            #pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++)
                #pragma GCC unroll 4
                for (int v = 0; v < n; v++) acc[r][v] += xv[v] * a[r];
        }
    #pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) store(out + r * out_step + v * V, acc[r][v]);
}

// The same for any number of vectors.
inline void rows_of_sums(const float* x, long step, int C, const int* taps, int T, const float* a,
                         float* out, long out_step, int vectors) {
    int v = 0;
    for (; v + COLS <= vectors; v += COLS)
        sums<COLS>(x + v * V, step, C, taps, T, a, out + v * V, out_step);
    if (vectors - v == 2) sums<2>(x + v * V, step, C, taps, T, a, out + v * V, out_step);
    if (vectors - v == 1) sums<1>(x + v * V, step, C, taps, T, a, out + v * V, out_step);
}
}  // namespace
"""


def usable(*arrays: jt.Var) -> bool:
    """Whether the CPU kernels apply: Jittor runs on the CPU and every array is float32.

    Args:
        arrays: what a kernel would read.
    """
    return not jt.flags.use_cuda and all(array.dtype == "float32" for array in arrays)
