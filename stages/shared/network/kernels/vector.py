"""What the fast kernels share: a vector type, a small matrix product and the test for their use."""

from __future__ import annotations

from stages.shared.network.runtime import jt

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

// Memory of one thread, kept from call to call: fresh pages cost more than the work on them.
template <int id> float* scratch(size_t n) {
    static thread_local std::vector<float> memory;
    if (memory.size() < n + V) memory.assign(n + V, 0.f);
    return (float*)(((size_t)memory.data() + 4 * V - 1) / (4 * V) * (4 * V));
}

// out[c][r] = in[r][c] for V rows of V columns, by log2(V) rounds that interleave the two halves.
inline void turn_square(const float* in, long from, float* out, long to) {
    typedef int places __attribute__((vector_size(4 * V)));
    places low, high;
    for (int i = 0; i < V; i++) {
        low[i] = i / 2 + i % 2 * V;
        high[i] = low[i] + V / 2;
    }
    vec now[V], next[V];
    #pragma GCC unroll 16
    for (int i = 0; i < V; i++) now[i] = load(in + i * from);
    #pragma GCC unroll 4
    for (int round = 1; round < V; round *= 2) {
        #pragma GCC unroll 8
        for (int i = 0; i < V / 2; i++) {
            next[2 * i] = __builtin_shuffle(now[i], now[i + V / 2], low);
            next[2 * i + 1] = __builtin_shuffle(now[i], now[i + V / 2], high);
        }
        #pragma GCC unroll 16
        for (int i = 0; i < V; i++) now[i] = next[i];
    }
    #pragma GCC unroll 16
    for (int i = 0; i < V; i++) store(out + i * to, now[i]);
}

// The same for any number of rows and columns; the last squares overlap those before them.
inline void turn(const float* in, long from, int rows, int columns, float* out, long to) {
    if (rows < V || columns < V) {
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < rows; r++) out[c * to + r] = in[r * from + c];
        return;
    }
    for (int r = 0; r < rows; r += V)
        for (int c = 0; c < columns; c += V) {
            const int row = std::min(r, rows - V), column = std::min(c, columns - V);
            turn_square(in + row * from + column, from, out + column * to + row, to);
        }
}
}  // namespace
"""


def usable(*arrays: jt.Var) -> bool:
    """Whether the CPU kernels apply: Jittor runs on the CPU and every array is float32.

    Args:
        arrays: what a kernel would read.
    """
    return not jt.flags.use_cuda and all(array.dtype == "float32" for array in arrays)
